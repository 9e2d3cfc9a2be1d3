"""Vision backbones, their weights on disk and the heads trained on top of them."""
