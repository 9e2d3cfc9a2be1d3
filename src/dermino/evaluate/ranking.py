"""Positives against negatives by their scores, for many weightings of the images at once.

Scores are sorted once, not once a weighting; a weighting counts how often each image occurs.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Ranking:
    """One class's scores, reduced to what rank statistics need.

    The positives' distinct scores are levels, in rising order.

    Parameters
    ----------
    level:
        Level of each of the P positives, shape (P,).
    positives, negatives:
        Which images they are, shapes (P,) and (n - P,).
    below, reached:
        For each negative, how many levels lie below its score, and how many it reaches or exceeds;
        they differ where it ties.
    n_levels, n:
        Number of levels, and of images.
    """

    level: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray
    below: np.ndarray
    reached: np.ndarray
    n_levels: int
    n: int

    @classmethod
    def of(cls, positive: np.ndarray, scores: np.ndarray) -> Ranking:
        """Rank n scores, of which ``positive``, (n,) bool, says whose they are."""
        levels, level = np.unique(scores[positive], return_inverse=True)
        negatives = np.flatnonzero(~positive)
        return cls(
            level=level,
            positives=np.flatnonzero(positive),
            negatives=negatives,
            below=np.searchsorted(levels, scores[negatives], side="left"),
            reached=np.searchsorted(levels, scores[negatives], side="right"),
            n_levels=len(levels),
            n=len(scores),
        )

    def wins(self, weights: np.ndarray) -> np.ndarray:
        """Sum the products of weights over pairs whose positive scores higher; ties count half.

        Parameters
        ----------
        weights:
            Non-negative, shape (n, R).

        Returns
        -------
        np.ndarray
            (R,) float64.
        """
        negatives_below = (self._entering @ weights).astype(np.float64)
        np.cumsum(negatives_below, axis=0, out=negatives_below)
        return np.einsum("lr,lr->r", self._at_level @ weights, negatives_below)

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
        n_positive = weights[self.positives].sum(axis=0, dtype=np.float64)
        pairs = n_positive * (weights.sum(axis=0, dtype=np.float64) - n_positive)
        wins = self.wins(weights)
        return np.divide(wins, pairs, out=np.full(pairs.shape, np.nan), where=pairs > 0)

    def average_precision(self, weights: np.ndarray) -> np.ndarray:
        """Area under the precision-recall steps, as scikit-learn defines it: no interpolation.

        Parameters
        ----------
        weights:
            Non-negative counts, shape (n, R), float32.

        Returns
        -------
        np.ndarray
            (R,) float64; NaN where a weighting has no positive.
        """
        at_level = np.asarray(self._at_level @ weights, np.float64)
        hits = _from_above(at_level)
        above = hits + _from_above(np.asarray(self._reaching @ weights, np.float64))
        # A level that no drawn positive has adds nothing, whatever lies above it.
        precision = np.divide(hits, above, out=np.zeros_like(hits), where=above > 0)
        gained = np.einsum("lr,lr->r", at_level, precision)
        total = weights[self.positives].sum(axis=0, dtype=np.float64)
        return np.divide(gained, total, out=np.full(total.shape, np.nan), where=total > 0)

    @cached_property
    def _at_level(self) -> csr_array:
        """Which positives have a level, shape (levels, n)."""
        return indicator(self.level, self.positives, (self.n_levels, self.n))

    @cached_property
    def _entering(self) -> csr_array:
        """Which negatives lie below a level and not below the one before; ties enter by halves."""
        rows = np.concatenate([self.below, self.reached])
        columns = np.concatenate([self.negatives, self.negatives])
        inside = rows < self.n_levels
        return indicator(rows[inside], columns[inside], (self.n_levels, self.n), 0.5)

    @cached_property
    def _reaching(self) -> csr_array:
        """Which negatives reach a level and not the one after, shape (levels, n)."""
        some = self.reached > 0
        shape = (self.n_levels, self.n)
        return indicator(self.reached[some] - 1, self.negatives[some], shape)


def indicator(
    rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int], value: float = 1.0
) -> csr_array:
    """Return a sparse (a, b) float32 matrix with ``value`` at the given places."""
    return csr_array((np.full(len(rows), value, np.float32), (rows, columns)), shape=shape)


def _from_above(counts: np.ndarray) -> np.ndarray:
    """Sum each level with all above it, shape (levels, R)."""
    return np.cumsum(counts[::-1], axis=0)[::-1]
