"""Several tests at once."""

from __future__ import annotations

import numpy as np


def holm(p: np.ndarray) -> np.ndarray:
    """Adjust a family of p values by Holm's step-down method; NaN ones are no tests and stay NaN.

    Parameters
    ----------
    p:
        Shape (m,).

    Returns
    -------
    np.ndarray
        Shape (m,): the smallest level at which the whole procedure rejects each.
    """
    adjusted = np.full(len(p), np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    factors = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1)
    return adjusted
