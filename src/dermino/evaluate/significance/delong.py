"""DeLong's test for two AUROCs on the same images, also where patients have several.

DeLong, DeLong and Clarke-Pearson 1988; the placements are computed from midranks in
O(n log n) as by Sun and Xu 2014; clusters as by Obuchowski 1997, which is DeLong's variance where
every image is a cluster of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, rankdata


@dataclass(frozen=True)
class DeLong:
    """Two AUROCs compared.

    Parameters
    ----------
    first, second:
        The AUROCs.
    standard_error:
        Of their difference.
    p:
        Two-sided; NaN where the standard error is zero.
    """

    first: float
    second: float
    standard_error: float
    p: float

    def interval(self, confidence: float = 0.95) -> tuple[float, float]:
        """Return the normal interval of the difference."""
        half = norm.ppf((1 + confidence) / 2) * self.standard_error
        return self.first - self.second - half, self.first - self.second + half


def placements(positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each image's share of won comparisons with the other class; ties count half.

    Parameters
    ----------
    positive:
        Shape (n,), bool.
    scores:
        Shape (n,), higher is more likely positive.

    Returns
    -------
    tuple of np.ndarray
        Of the P positives, shape (P,), and of the negatives, shape (n - P,).
    """
    ranks = rankdata(scores)
    among_positives = rankdata(scores[positive])
    among_negatives = rankdata(scores[~positive])
    n_positive, n_negative = len(among_positives), len(among_negatives)
    won = (ranks[positive] - among_positives) / n_negative
    lost = (ranks[~positive] - among_negatives) / n_positive
    return won, 1 - lost


def delong(
    positive: np.ndarray, first: np.ndarray, second: np.ndarray, unit: np.ndarray | None = None
) -> DeLong:
    """Compare the AUROCs of two scores.

    Parameters
    ----------
    positive:
        Shape (n,), bool; at least one and not all.
    first, second:
        Scores, shape (n,).
    unit:
        Number of each image's patient or lesion, shape (n,); default: images are independent.
    """
    unit = np.arange(len(positive)) if unit is None else unit
    n_units = int(unit.max()) + 1
    won = [placements(positive, scores) for scores in (first, second)]
    areas = [float(own[0].mean()) for own in won]
    difference = areas[0] - areas[1]
    sides: list[np.ndarray] = []
    sizes, clusters = [], []
    for side, rows in enumerate((positive, ~positive)):
        centred = won[0][side] - won[1][side] - difference
        sides.append(np.bincount(unit[rows], centred, n_units))
        sizes.append(int(rows.sum()))
        clusters.append(len(np.unique(unit[rows])))
    variance = 2 * _covariance(sides[0], sides[1], len(np.unique(unit))) / (sizes[0] * sizes[1])
    for own, size, count in zip(sides, sizes, clusters, strict=True):
        variance += _covariance(own, own, count) / size**2
    # Where the scores rank alike, rounding leaves a residue of either sign.
    error = 0.0 if abs(variance) < 1e-18 else float(np.sqrt(variance))
    p = float(2 * norm.sf(abs(difference) / error)) if error > 0 else float("nan")
    return DeLong(areas[0], areas[1], error, p)


def _covariance(first: np.ndarray, second: np.ndarray, count: int) -> float:
    """Sum the products of the clusters' sums, corrected for the estimated mean; NaN for one."""
    return float(first @ second) * count / (count - 1) if count > 1 else float("nan")
