"""Several tests at once."""

from __future__ import annotations

import numpy as np


def holm(p: np.ndarray) -> np.ndarray:
    """Adjust a family of p values by Holm's method; NaN ones are no tests and stay NaN.

    Parameters
    ----------
    p:
        Shape (m,).
    """
    from statsmodels.stats.multitest import multipletests

    adjusted = np.full(len(p), np.nan)
    tested = ~np.isnan(p)
    if tested.any():
        adjusted[tested] = multipletests(p[tested], method="holm")[1]
    return adjusted
