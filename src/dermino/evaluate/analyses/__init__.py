"""One module an analysis; each registers itself with :data:`dermino.evaluate.analysis.ANALYSES`."""
