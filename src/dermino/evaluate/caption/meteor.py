"""METEOR 1.5 of a set of images, from the counts that its Java program states for each."""

from __future__ import annotations

import numpy as np

from dermino.evaluate.pooled import PooledScore

# The program's parameters for English. Denkowski and Lavie (2014), equations 1 to 5.
_ALPHA, _BETA, _GAMMA, _DELTA = 0.85, 0.2, 0.6, 0.75
_WEIGHTS = np.array([1.0, 0.6, 0.8, 0.6])  # Exact words, stems, synonyms, paraphrases.


def pooled_meteor(title: str, counts: np.ndarray) -> PooledScore:
    """Pool METEOR's counts over images, as its program does for a whole set.

    Parameters
    ----------
    title:
        How reports call it.
    counts:
        Of each image, shape (n, 23), as :func:`dermino.evaluate.caption.java.meteor_statistics`
        gives them.
    """
    pooled = counts.copy()
    # The program counts no chunk for a caption that is its reference, word for word.
    length, reference, chunks, matched, found = pooled[:, [0, 1, 20, 21, 22]].T
    pooled[(matched == length) & (found == reference) & (chunks == 1), 20] = 0
    return PooledScore(title, pooled, _score, per_image=_score(pooled))


def _score(sums: np.ndarray) -> np.ndarray:
    """Return METEOR for each row of summed counts: (R, 23) -> (R,)."""
    length, reference, length_function, reference_function = sums[:, :4].T
    # For each kind of match: content words here and there, function words here and there.
    matches = np.einsum("rkc,k->cr", sums[:, 4:20].reshape(-1, 4, 4), _WEIGHTS)
    chunks, matched, found = sums[:, 20:].T
    precision = _ratio(_weigh(*matches[[0, 2]]), _weigh(length - length_function, length_function))
    recall = _ratio(
        _weigh(*matches[[1, 3]]), _weigh(reference - reference_function, reference_function)
    )
    mean = _ratio(precision * recall, _ALPHA * precision + (1 - _ALPHA) * recall)
    fragments = _ratio(chunks, (matched + found) / 2)
    return mean * (1 - _GAMMA * fragments**_BETA)


def _weigh(content: np.ndarray, function: np.ndarray) -> np.ndarray:
    return _DELTA * content + (1 - _DELTA) * function


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide; nothing of nothing is 0, as METEOR's program has it."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
