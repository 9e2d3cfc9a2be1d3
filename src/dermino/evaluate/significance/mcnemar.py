"""McNemar's test for two accuracies on the same images, also where patients have several."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2


def mcnemar_p(first: np.ndarray, second: np.ndarray, unit: np.ndarray | None = None) -> float:
    """Return the two-sided p of equal accuracy.

    Independent images: the exact binomial test on those that only one got right. With clusters:
    the chi-squared test of Yang, Sun and Hardin 2010, whose variance is that of the clusters' sums.

    Parameters
    ----------
    first, second:
        Whether each image was answered rightly, shape (n,), bool.
    unit:
        Number of each image's patient or lesion, shape (n,); default: images are independent.

    Returns
    -------
    float
        1 where both are right on the same images.
    """
    from statsmodels.stats.contingency_tables import mcnemar

    if unit is None:
        cells = [[int(np.sum((first == a) & (second == b))) for b in (1, 0)] for a in (1, 0)]
        return float(mcnemar(cells, exact=True).pvalue) if (first != second).any() else 1.0
    surplus = np.bincount(unit, first.astype(np.float64) - second)
    variance = float(surplus @ surplus)
    return float(chi2.sf(surplus.sum() ** 2 / variance, 1)) if variance > 0 else 1.0
