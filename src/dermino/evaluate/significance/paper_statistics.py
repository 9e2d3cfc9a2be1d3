"""The paper's interval and test (section 4.2), for comparison with its figures only."""

from __future__ import annotations

import numpy as np
from scipy.stats import ttest_rel

_T_TEST = (
    "and its t-test takes replicates for patients: p falls with their number, so any difference "
    "becomes significant."
)
WARNINGS = {
    "paper": "The paper's interval, mean plus or minus variance of the replicates, covers no "
    f"stated share of anything, {_T_TEST}",
    "authors": "The authors' interval, mean plus or minus standard deviation of the replicates, "
    f"covers about 68 %, not 95 %, {_T_TEST}",
}


def paper_interval(replicates: np.ndarray, deviation: bool = False) -> tuple[float, float]:
    """Return mean minus and plus variance of the replicates, shape (R,).

    A variance is in squared units: at a standard error of 0.02 the interval has half the width
    0.0004. The authors' code and figures have the standard deviation instead (``deviation``), an
    interval of about 68 %.
    """
    defined = replicates[~np.isnan(replicates)]
    if len(defined) < 2:
        return float("nan"), float("nan")
    mean = float(defined.mean())
    half = float(defined.std(ddof=1) if deviation else defined.var(ddof=1))
    return mean - half, mean + half


def paper_t_test(first: np.ndarray, second: np.ndarray) -> float:
    """Return the two-sided p of the paired t-test over replicates, each of shape (R,).

    NaN with fewer than two pairs, or where all differences are equal.
    """
    both = ~(np.isnan(first) | np.isnan(second))
    difference = first[both] - second[both]
    if len(difference) < 2 or np.ptp(difference) == 0:
        return float("nan")
    return float(ttest_rel(first[both], second[both]).pvalue)
