"""The bias-corrected and accelerated interval (Efron 1987; Efron and Tibshirani 1993, ch. 14)."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

UNDEFINED = (
    "no BCa interval: all replicates lie on one side of the value, or leaving out images never "
    "changes it"
)


def acceleration(left_out: np.ndarray, strata: np.ndarray | None = None) -> float:
    """Estimate how the standard error changes with the value, from its jackknife.

    Parameters
    ----------
    left_out:
        The value without one unit (or group of units), for each of J units, shape (J,).
    strata:
        Which stratum each unit is drawn from, shape (J,); default: one.

    Returns
    -------
    float
        NaN where the values do not vary.
    """
    strata = np.zeros(len(left_out), np.int64) if strata is None else strata
    third = second = 0.0
    for stratum in np.unique(strata):
        own = left_out[strata == stratum]
        influence = (len(own) - 1) / len(own) * (own.mean() - own)
        third += float((influence**3).sum())
        second += float((influence**2).sum())
    # Rounding leaves residues where the values are equal.
    if not second > (1e-12 * max(1.0, float(np.abs(left_out).max(initial=0)))) ** 2:
        return float("nan")
    return third / (6 * second**1.5)


def bca_interval(
    value: float,
    replicates: np.ndarray,
    left_out: np.ndarray,
    confidence: float = 0.95,
    strata: np.ndarray | None = None,
) -> tuple[float, float]:
    """Return the interval's ends.

    Parameters
    ----------
    value:
        On the sample itself.
    replicates:
        Bootstrap replicates, shape (R,), none of them NaN.
    left_out, strata:
        As for :func:`acceleration`.
    confidence:
        Nominal coverage.

    Returns
    -------
    tuple of float
        NaN where :data:`UNDEFINED` says so.
    """
    undefined = float("nan"), float("nan")
    if not len(replicates):
        return undefined
    below = ((replicates < value).mean() + (replicates <= value).mean()) / 2
    bias, accelerated = ndtri(below), acceleration(left_out, strata)
    if not (np.isfinite(bias) and np.isfinite(accelerated)):
        return undefined
    tail = (1 - confidence) / 2
    z = bias + ndtri(np.array([tail, 1 - tail]))
    low, high = np.quantile(replicates, ndtr(bias + z / (1 - accelerated * z)))
    return float(low), float(high)
