"""Positives against negatives by their scores, for many weightings of the images at once.

Scores are sorted once, not once a weighting; a weighting counts how often each image occurs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Ranking:
    """One class's scores, reduced to what the rank statistic needs.

    The positives' distinct scores are levels, in rising order. ``gains`` (levels, n) has a one
    where a negative first lies below a level; a negative that ties with a level has one half there
    and one half at the next, so that the running sum over levels counts ties by half.
    ``at_level`` (levels, n) says which level each positive has.
    """

    gains: csr_array
    at_level: csr_array

    @classmethod
    def of(cls, positive: np.ndarray, scores: np.ndarray) -> Ranking:
        """Rank n scores, of which ``positive``, (n,) bool, says whose they are."""
        levels, level = np.unique(scores[positive], return_inverse=True)
        shape = (len(levels), len(scores))
        negatives = np.flatnonzero(~positive)
        not_above = np.searchsorted(levels, scores[negatives], side="left")
        strictly_below = np.searchsorted(levels, scores[negatives], side="right")
        rows = np.concatenate([not_above, strictly_below])
        columns = np.concatenate([negatives, negatives])
        inside = rows < len(levels)
        return cls(
            indicator(rows[inside], columns[inside], shape, 0.5),
            indicator(level, np.flatnonzero(positive), shape),
        )

    def auroc(self, weights: np.ndarray) -> np.ndarray:
        """Mann-Whitney statistic of each weighting, NaN without positives or negatives.

        Parameters
        ----------
        weights:
            Non-negative counts, shape (n, R), float32.

        Returns
        -------
        np.ndarray
            (R,) float64.
        """
        positives = self.at_level @ weights
        wins = (self.gains @ weights).astype(np.float64)
        np.cumsum(wins, axis=0, out=wins)
        n_positive = positives.sum(axis=0, dtype=np.float64)
        n_negative = weights.sum(axis=0, dtype=np.float64) - n_positive
        pairs = n_positive * n_negative
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(pairs > 0, np.einsum("lr,lr->r", positives, wins) / pairs, np.nan)


def average_precision(positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the precision-recall steps, as scikit-learn defines it, without interpolation.

    Parameters
    ----------
    positive:
        Whose scores they are, shape (n,), bool.
    scores:
        Shape (n,); equal ones share a threshold.
    weights:
        Non-negative counts, shape (n, R).

    Returns
    -------
    np.ndarray
        (R,) float64; NaN where a weighting has no positive.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_ties = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], len(ranked) > 0))
    counts = weights[order].astype(np.float64)
    above = np.cumsum(counts, axis=0)[last_of_ties]
    hits = np.cumsum(counts * positive[order][:, None], axis=0)[last_of_ties]
    precision = np.divide(hits, above, out=np.zeros_like(hits), where=above > 0)
    gained = (np.diff(hits, axis=0, prepend=0) * precision).sum(axis=0)
    total = (weights[positive]).sum(axis=0, dtype=np.float64)
    return np.divide(gained, total, out=np.full(total.shape, np.nan), where=total > 0)


def indicator(
    rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int], value: float = 1.0
) -> csr_array:
    """Return a sparse (a, b) float32 matrix with ``value`` at the given places."""
    return csr_array((np.full(len(rows), value, np.float32), (rows, columns)), shape=shape)
