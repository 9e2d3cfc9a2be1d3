"""Pretraining: views, objectives, methods and the loop that runs them."""
