"""Captions: a language model that sees an encoder's features, and how its texts are judged."""
