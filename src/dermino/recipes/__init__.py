"""Recipes of pretraining runs, as YAML."""
