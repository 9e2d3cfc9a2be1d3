"""Destinations of a run's records, one file each; see :mod:`dermino.pretrain.logger`."""
