"""What the labels mean: one set of disease concepts for all datasets, and their prototypes."""
