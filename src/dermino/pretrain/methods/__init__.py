"""One way of pretraining a file: its views, its objectives, what it exports."""
