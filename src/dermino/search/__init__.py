"""Finding images that look alike in an archive, by the features of an encoder."""
