"""Segmentation with a frozen encoder: masks, feature maps, heads, training and metrics."""
