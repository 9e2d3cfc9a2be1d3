"""Differences replicate by replicate: the paired bootstrap."""

from __future__ import annotations

import numpy as np


def bootstrap_p(differences: np.ndarray) -> float:
    """Return the two-sided p of no difference, by inverting the percentile interval.

    It is the smallest error rate at which the interval would leave out zero (Efron and Tibshirani
    1993, section 15.4 discusses its kinship with the interval). Never zero, at most one.

    Parameters
    ----------
    differences:
        Replicates of one encoder's metric minus the other's, on the same draws, shape (R,); NaN
        ones are left out.

    Returns
    -------
    float
        NaN where no replicate is defined.
    """
    defined = differences[~np.isnan(differences)]
    if not len(defined):
        return float("nan")
    side = min((defined <= 0).sum(), (defined >= 0).sum())
    return float(min(1.0, 2 * (side + 1) / (len(defined) + 1)))
