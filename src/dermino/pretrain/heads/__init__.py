"""What is trained on top of a backbone and thrown away afterwards."""
