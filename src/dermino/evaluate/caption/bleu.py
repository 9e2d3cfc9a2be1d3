"""BLEU over a set of images, as NLTK and as the COCO evaluation compute it.

Both pool counts over all images before they divide, so the value is no mean of images. Papineni et
al. (2002); the two differ in tokens, and in what happens when an n-gram never matches.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import numpy as np

from dermino.evaluate.pooled import PooledScore

_LONGEST = 4
# What keeps pycocoevalcap's quotients defined.
_TINY, _SMALL = 1e-15, 1e-9


def nltk_bleu(
    title: str, references: Sequence[Sequence[str]], generated: Sequence[str], order: int
) -> PooledScore:
    """Pool ``nltk.translate.bleu_score.corpus_bleu`` without smoothing, words split at blanks.

    Parameters
    ----------
    title:
        How reports call it.
    references:
        One or more captions an image.
    generated:
        The caption to be judged of each image.
    order:
        The longest n-grams, 1 to 4; all lengths weigh the same.
    """
    from nltk.translate.bleu_score import closest_ref_length, modified_precision

    statistics = []
    for texts, text in zip(references, generated, strict=True):
        words, candidates = text.split(), [reference.split() for reference in texts]
        precisions = [modified_precision(candidates, words, n + 1) for n in range(_LONGEST)]
        statistics.append(
            [
                *(precision.numerator for precision in precisions),
                *(precision.denominator for precision in precisions),
                len(words),
                closest_ref_length(candidates, len(words)),
            ]
        )
    return _pooled(title, statistics, partial(_combine_nltk, order=order))


def coco_bleu(
    title: str, references: Sequence[Sequence[str]], generated: Sequence[str], order: int
) -> PooledScore:
    """Pool pycocoevalcap's BLEU of tokenised captions, words split at blanks.

    The parameters are those of :func:`nltk_bleu`.
    """
    from pycocoevalcap.bleu.bleu_scorer import cook_refs, cook_test

    statistics = []
    for texts, text in zip(references, generated, strict=True):
        counts = cook_test(text, cook_refs(list(texts), n=_LONGEST), eff="closest", n=_LONGEST)
        lengths = [counts["testlen"], counts["reflen"]]
        statistics.append([*counts["correct"], *counts["guess"], *lengths])
    return _pooled(title, statistics, partial(_combine_coco, order=order))


def _pooled(title: str, statistics: list[list[int]], combine: partial[np.ndarray]) -> PooledScore:
    shape = (len(statistics), 2 * _LONGEST + 2)
    return PooledScore(title, np.array(statistics, np.float64).reshape(shape), combine)


def _combine_nltk(sums: np.ndarray, order: int) -> np.ndarray:
    matched, counted = sums[:, :order], sums[:, _LONGEST : _LONGEST + order]
    length, reference = sums[:, -2], sums[:, -1]
    with np.errstate(divide="ignore", invalid="ignore"):
        precisions = np.where(matched > 0, matched / counted, sys.float_info.min)
        penalty = np.where(length > reference, 1, np.exp(1 - reference / length))
    value = penalty * np.exp(np.log(precisions).mean(axis=1))
    return np.where(matched[:, 0] > 0, value, 0)


def _combine_coco(sums: np.ndarray, order: int) -> np.ndarray:
    matched, counted = sums[:, :order], sums[:, _LONGEST : _LONGEST + order]
    value = ((matched + _TINY) / (counted + _SMALL)).prod(axis=1) ** (1 / order)
    share = (sums[:, -2] + _TINY) / (sums[:, -1] + _SMALL)
    return value * np.exp(np.minimum(0, 1 - 1 / share))
