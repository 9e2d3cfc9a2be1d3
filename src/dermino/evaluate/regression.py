"""A number an image, such as an age or a count: predictions and their metrics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from dermino.evaluate.metric import Metric, ratio, unusable


@dataclass(frozen=True)
class RegressionPredictions:
    """What was said about a number.

    Parameters
    ----------
    targets, predicted:
        Shape (n,), float64, in the target's own unit; targets are finite, and metrics are
        undefined unless all predictions are.
    """

    targets: np.ndarray
    predicted: np.ndarray

    def __post_init__(self) -> None:
        if self.targets.shape != self.predicted.shape or self.targets.ndim != 1:
            raise ValueError(f"{self.targets.shape} targets, {self.predicted.shape} predictions")
        if not np.isfinite(self.targets).all():
            raise ValueError("targets must be finite")

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def unusable(self) -> str:
        """Why nothing can be computed: no image, or predictions that are not finite numbers."""
        return unusable(self.predicted)

    def select(self, rows: np.ndarray) -> RegressionPredictions:
        """Return some of the images: a boolean mask or row numbers."""
        return RegressionPredictions(self.targets[rows], self.predicted[rows])

    def columns(self) -> dict[str, pa.Array]:
        """Return ``target`` and ``predicted``."""
        return {"target": pa.array(self.targets), "predicted": pa.array(self.predicted)}

    @classmethod
    def from_table(cls, table: pa.Table, classes: Sequence[str]) -> RegressionPredictions:
        """Read what :meth:`columns` gave."""
        return cls(table["target"].to_numpy(), table["predicted"].to_numpy())


def mean_absolute_error(predictions: RegressionPredictions, weights: np.ndarray) -> np.ndarray:
    """Mean distance from the truth: (n, R) weights -> (R,) float64."""
    return _mean(np.abs(predictions.targets - predictions.predicted), weights)


def root_mean_squared_error(predictions: RegressionPredictions, weights: np.ndarray) -> np.ndarray:
    """Root of the mean squared distance from the truth: (n, R) weights -> (R,) float64."""
    return np.sqrt(_mean(np.square(predictions.targets - predictions.predicted), weights))


def r2(predictions: RegressionPredictions, weights: np.ndarray) -> np.ndarray:
    """Share of the targets' variance explained: (n, R) -> (R,); NaN where they do not vary."""
    squared_error = _mean(np.square(predictions.targets - predictions.predicted), weights)
    # Around the mean, or the difference of two large numbers would lose digits.
    centred = predictions.targets - predictions.targets.mean() if len(predictions) else np.zeros(0)
    variance = _mean(np.square(centred), weights) - np.square(_mean(centred, weights))
    return 1 - ratio(squared_error, variance)


def _mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    exact = weights.astype(np.float64)
    return ratio(values @ exact, exact.sum(axis=0))


def _constant(predictions: RegressionPredictions) -> str:
    if len(np.unique(predictions.targets)) == 1:
        return "all test images have the same target"
    return ""


REGRESSION_METRICS: dict[str, Metric[RegressionPredictions]] = {
    "mean_absolute_error": Metric("Mean absolute error", mean_absolute_error),
    "root_mean_squared_error": Metric("Root mean squared error", root_mean_squared_error),
    "r2": Metric("R²", r2, _constant),
}
