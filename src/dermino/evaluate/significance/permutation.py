"""The paired permutation test: which difference chance makes when the encoders' names are swapped.

For each patient, lesion or image the answers of the two encoders change places with probability one
half. Any metric can be tested, since a metric is a function of weights: the answers of both are
stacked, and a swap gives weight to the one half or the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
from scipy.stats import rankdata

from dermino.evaluate.metric import Metric

_BLOCK_VALUES = 2**20
_ROUNDING = 1e-9


def permutation_p(
    metrics: Mapping[str, Metric[Any]],
    first: Any,
    second: Any,
    unit: np.ndarray,
    permutations: int = 2000,
    seed: int = 0,
) -> dict[str, float]:
    """Return each metric's two-sided p; never zero, as the observed assignment counts as one.

    Scores that a metric reads only for their order are replaced by their ranks within each encoder
    (Venkatraman and Begg 1996), since two encoders' scores have no common scale.

    Parameters
    ----------
    metrics:
        By name, all of them defined on both.
    first, second:
        The answers of two encoders for the same n images.
    unit:
        Number of each image's patient, lesion or image, shape (n,), from 0.
    permutations:
        Random swaps; the smallest p possible is one in this number plus one.
    seed:
        Of the swaps.
    """
    both = _stacked(first, second)
    ranked = _stacked(_ranks(first), _ranks(second)) if hasattr(first, "scores") else both
    answers = {name: ranked if metric.by_rank else both for name, metric in metrics.items()}
    n = len(unit)
    once = np.repeat(np.eye(2, dtype=np.float32), n, axis=0)
    observed = {
        name: float(np.abs(np.subtract(*metric.replicates(answers[name], once))))
        for name, metric in metrics.items()
    }
    random = np.random.default_rng(seed)
    width = max(1, _BLOCK_VALUES // max(2 * n, 1))
    extreme = dict.fromkeys(metrics, 0)
    for start in range(0, permutations, width):
        swapped = random.integers(0, 2, (int(unit.max()) + 1, min(width, permutations - start)))
        swap = swapped.astype(np.float32)[unit]
        names = np.concatenate([1 - swap, swap]), np.concatenate([swap, 1 - swap])
        for name, metric in metrics.items():
            values = [metric.replicates(answers[name], weights) for weights in names]
            difference = np.abs(values[0] - values[1])
            extreme[name] += int((difference >= observed[name] - _ROUNDING).sum())
    return {name: (count + 1) / (permutations + 1) for name, count in extreme.items()}


def _ranks(answers: Any) -> Any:
    return replace(answers, scores=rankdata(answers.scores, axis=0))


def _stacked(first: Any, second: Any) -> Any:
    """Return the answers of both, one after the other."""
    arrays = {
        own.name: np.concatenate([getattr(first, own.name), getattr(second, own.name)])
        for own in fields(first)
        if isinstance(getattr(first, own.name), np.ndarray)
    }
    return replace(first, **arrays)
