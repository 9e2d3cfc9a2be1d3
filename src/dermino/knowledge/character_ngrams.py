"""Character n-grams: the text encoder that needs no model, and the baseline for those that do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import HashingVectorizer

DIMENSIONS = 2048


class CharacterNgrams:
    """Signed hashing of the 2- to 4-grams inside words, as vectors of length 1.

    It knows spelling and no meaning: two names are close when they share pieces of words. Nothing
    is fitted, so a name's vector does not depend on the other names.
    """

    name = "char-ngrams"

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return (n, 2048) float32 rows of length 1."""
        hashing = HashingVectorizer(
            analyzer="char_wb", ngram_range=(2, 4), n_features=DIMENSIONS, dtype=np.float64
        )
        return hashing.transform(texts).toarray().astype(np.float32)
