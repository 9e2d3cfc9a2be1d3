"""One module a protocol; each registers itself with :data:`dermino.evaluate.protocol.PROTOCOLS`."""
