"""Metrics that a protocol brings itself: values of single images, pooled over the test set.

A protocol that measures overlap or the likeness of texts states, for each test image, the numbers
that a metric is made of. Pooling, the bootstrap and undefined values are then the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from dermino.evaluate.metric import Metric, ratio, unusable


@dataclass(frozen=True)
class PooledScore:
    """A metric made of sums over the test images.

    Parameters
    ----------
    title:
        How reports call it.
    statistics:
        What each image adds, shape (n, S), finite.
    combine:
        From sums to values: (R, S) -> (R,); NaN where undefined.
    note:
        What a reader should know, such as how many images had no value of their own.
    per_image:
        Value of each image where it has one, shape (n,), NaN where undefined; kept beside the
        predictions so that encoders can be compared image by image.
    """

    title: str
    statistics: np.ndarray
    combine: Callable[[np.ndarray], np.ndarray]
    note: str = ""
    per_image: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.statistics.ndim != 2 or not np.isfinite(self.statistics).all():
            raise ValueError("statistics must be finite and of shape (n, S)")

    def __len__(self) -> int:
        return len(self.statistics)

    @property
    def unusable(self) -> str:
        """Why nothing can be computed: there is no image."""
        return unusable(self.statistics)

    @classmethod
    def mean(cls, title: str, values: np.ndarray) -> PooledScore:
        """Average values of single images, shape (n,); NaN ones are left out and counted."""
        values = np.asarray(values, np.float64)
        defined = np.isfinite(values)
        left_out = int((~defined).sum())
        statistics = np.stack([np.where(defined, values, 0), defined], axis=1)
        note = f"undefined for {left_out} of {len(values)} images" if left_out else ""
        return cls(title, statistics, _quotient, note, values)

    @classmethod
    def ratio(cls, title: str, part: np.ndarray, whole: np.ndarray) -> PooledScore:
        """Divide the sum of ``part`` by that of ``whole``, each of shape (n,)."""
        return cls(title, np.stack([part, whole], axis=1).astype(np.float64), _quotient)

    def select(self, rows: np.ndarray) -> PooledScore:
        """Return the score of some of the images: a boolean mask or row numbers."""
        own = None if self.per_image is None else self.per_image[rows]
        return PooledScore(self.title, self.statistics[rows], self.combine, self.note, own)

    def replicates(self, weights: np.ndarray) -> np.ndarray:
        """Return the value for each weighting: (n, R) -> (R,) float64."""
        return self.combine(weights.T.astype(np.float64) @ self.statistics)

    def metric(self) -> Metric[PooledScore]:
        """Return it as a metric of itself, which the bootstrap takes."""
        return Metric(
            self.title, lambda score, weights: score.replicates(weights), PooledScore._undefined
        )

    def _undefined(self) -> str:
        value = self.replicates(np.ones((len(self), 1)))[0]
        return (self.note or "it is undefined on these images") if np.isnan(value) else ""


@dataclass(frozen=True)
class Aggregate:
    """A metric that is not made of sums over images, such as one averaged over batches.

    Parameters
    ----------
    title:
        How reports call it.
    value:
        Over the whole test set; NaN where undefined, with the reason in ``note``.
    ci_low, ci_high:
        Its interval, where the protocol has one.
    note:
        What a reader should know.
    """

    title: str
    value: float
    ci_low: float = float("nan")
    ci_high: float = float("nan")
    note: str = ""


Score = PooledScore | Aggregate


def _quotient(sums: np.ndarray) -> np.ndarray:
    return ratio(sums[:, 0], sums[:, 1])
