"""Calibration metrics, each made of sums over images, and the bins of a reliability diagram."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dermino.evaluate.classification import Predictions
from dermino.evaluate.metric import ratio
from dermino.evaluate.pooled import PooledScore

BINS = 15
_TOLERANCE = 1e-4  # single precision sums of many classes


def not_probabilities(predictions: Predictions) -> str:
    """Tell why the scores are no probabilities; empty when they are."""
    if predictions.unusable:
        return predictions.unusable
    scores = predictions.scores
    outside = (scores < -_TOLERANCE) | (scores > 1 + _TOLERANCE)
    if outside.any() or (np.abs(scores.sum(axis=1) - 1) > _TOLERANCE).any():
        return "the scores are no probabilities: they lie outside 0 to 1 or do not add up to 1"
    return ""


def confidence(predictions: Predictions) -> np.ndarray:
    """Probability of the predicted class, shape (n,)."""
    return np.take_along_axis(predictions.scores, predictions.predicted[:, None], axis=1)[:, 0]


def correct(predictions: Predictions) -> np.ndarray:
    """Whether the predicted class is the true one, shape (n,), bool."""
    return np.asarray(predictions.predicted == predictions.targets)


@dataclass(frozen=True)
class Bins:
    """Images by their confidence.

    Parameters
    ----------
    edges:
        The B + 1 bounds, rising. A bin holds its upper bound, the first also its lower one.
    """

    edges: np.ndarray

    @classmethod
    def equal_width(cls, number: int) -> Bins:
        """Divide 0 to 1 evenly (Guo et al. 2017)."""
        return cls(np.linspace(0, 1, number + 1))

    @classmethod
    def equal_mass(cls, values: np.ndarray, number: int) -> Bins:
        """Divide so that bins hold as many images each, as far as equal values allow."""
        inner = np.quantile(values, np.arange(1, number) / number, method="inverted_cdf")
        inner = np.unique(inner)
        return cls(np.concatenate([[0.0], inner[(inner > 0) & (inner < 1)], [1.0]]))

    def __len__(self) -> int:
        return len(self.edges) - 1

    def of(self, values: np.ndarray) -> np.ndarray:
        """Return the bin number of each value, shape (n,)."""
        return np.searchsorted(self.edges[1:-1], values, side="left")

    def names(self) -> list[str]:
        """Return each bin's bounds for people, ``0.8-0.9``."""
        return [f"{low:.3g}-{high:.3g}" for low, high in pairwise(self.edges)]


def expected_calibration_error(predictions: Predictions, bins: Bins) -> PooledScore:
    """Mean distance between confidence and accuracy over bins, weighted by their images.

    Of the predicted class only (Guo et al. 2017, equation 3).
    """

    def mean(sums: np.ndarray) -> np.ndarray:
        count, gap = _by_bin(sums)
        return ratio(np.abs(gap).sum(axis=1), count.sum(axis=1))

    return PooledScore("Expected calibration error", _bin_sums(predictions, bins), mean)


def maximum_calibration_error(predictions: Predictions, bins: Bins) -> PooledScore:
    """Largest distance between confidence and accuracy in any bin (Guo et al. 2017, equation 5)."""

    def largest(sums: np.ndarray) -> np.ndarray:
        count, gap = _by_bin(sums)
        distance = np.abs(ratio(gap, count))
        return np.where(count > 0, distance, -np.inf).max(axis=1)

    return PooledScore("Maximum calibration error", _bin_sums(predictions, bins), largest)


def brier_score(predictions: Predictions) -> PooledScore:
    """Squared distance from the truth, summed over classes: 0 to 2 (Brier 1950).

    Of two classes it is twice the score of the positive class alone.
    """
    truth = np.eye(len(predictions.classes))[predictions.targets]
    return PooledScore.mean("Brier score", ((predictions.scores - truth) ** 2).sum(axis=1))


def negative_log_likelihood(predictions: Predictions) -> PooledScore:
    """Mean of -log of the true class's probability; undefined where one is 0, as it is infinite."""
    own = np.take_along_axis(predictions.scores, predictions.targets[:, None], axis=1)[:, 0]
    impossible = own <= 0
    loss = -np.log(np.where(impossible, 1, own))

    def mean(sums: np.ndarray) -> np.ndarray:
        return np.where(sums[:, 1] > 0, np.nan, ratio(sums[:, 0], sums[:, 2]))

    return PooledScore(
        "Negative log likelihood",
        np.stack([loss, impossible, np.ones(len(own))], axis=1),
        mean,
        "infinite: the true class of an image is given probability 0",
    )


def _bin_sums(predictions: Predictions, bins: Bins) -> np.ndarray:
    """Return what each image adds to count and to confidence minus accuracy of B bins, (n, 2B)."""
    values = confidence(predictions)
    member = bins.of(values)[:, None] == np.arange(len(bins))
    gap = values - correct(predictions)
    return np.concatenate([member, member * gap[:, None]], axis=1).astype(np.float64)


def _by_bin(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    count, gap = np.split(sums, 2, axis=1)
    return count, gap
