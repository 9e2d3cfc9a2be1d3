"""Task files: what is asked of which dataset, as data (:mod:`dermino.evaluate.definition`)."""
