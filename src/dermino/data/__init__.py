"""Images on disk and the one table that describes them."""
