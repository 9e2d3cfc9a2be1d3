"""Encoders ranked over several tasks: Friedman's test and Nemenyi's critical difference.

Demsar 2006, "Statistical comparisons of classifiers over multiple data sets".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import friedmanchisquare, rankdata, studentized_range


@dataclass(frozen=True)
class RankComparison:
    """k encoders on N tasks.

    Parameters
    ----------
    mean_ranks:
        Shape (k,); 1 is the best, ties share their ranks.
    p:
        Friedman's test that all rank alike; NaN for fewer than three encoders or two tasks.
    critical_difference:
        Mean ranks further apart than this differ at the level asked for (Nemenyi).
    pairwise_p:
        Nemenyi's p of each pair, shape (k, k).
    """

    mean_ranks: np.ndarray
    p: float
    critical_difference: float
    pairwise_p: np.ndarray


def compare_ranks(values: np.ndarray, alpha: float = 0.05) -> RankComparison:
    """Rank encoders within each task and compare the mean ranks.

    Parameters
    ----------
    values:
        Shape (N, k), higher is better, finite.
    alpha:
        Level of the critical difference.
    """
    n_tasks, n_encoders = values.shape
    ranks = rankdata(-values, axis=1)
    mean_ranks = ranks.mean(axis=0)
    testable = n_encoders > 2 and n_tasks > 1 and np.ptp(ranks, axis=1).any()
    p = float(friedmanchisquare(*values.T).pvalue) if testable else float("nan")
    error = np.sqrt(n_encoders * (n_encoders + 1) / (6 * n_tasks))
    # The range statistic is that of a difference of means over one mean's error: root two apart.
    quantile = studentized_range.ppf(1 - alpha, n_encoders, np.inf) / np.sqrt(2)
    gaps = np.abs(mean_ranks[:, None] - mean_ranks[None, :])
    pairwise = studentized_range.sf(gaps / error * np.sqrt(2), n_encoders, np.inf)
    return RankComparison(mean_ranks, p, float(quantile * error), pairwise)
