"""Classification metrics, computed for many weightings of the test images at once.

A weighting counts how often each test image occurs in a bootstrap replicate; all ones is the test
set itself. One implementation thus gives the value and its replicates. Scores are sorted once, not
once a replicate.

Semantics are scikit-learn's: :func:`macro_f1` averages over the classes that occur among targets
or predictions, :func:`balanced_accuracy` over those among the targets, :func:`macro_auroc` over
those that have both positives and negatives. On the test set itself a macro AUROC with a class
missing is not reported as a number (:attr:`Metric.undefined`); in a replicate that happens not to
draw a rare class, the mean is over the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_array


@dataclass(frozen=True)
class Predictions:
    """What a classifier said about the test images.

    Parameters
    ----------
    targets:
        True class of each image, shape (n,), integers below C.
    predicted:
        Predicted class, shape (n,).
    scores:
        One score for each class, higher is more likely, shape (n, C), finite.
    classes:
        Names of the C classes, for messages.
    """

    targets: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray
    classes: Sequence[str]

    def __post_init__(self) -> None:
        n, n_classes = self.scores.shape
        if self.targets.shape != (n,) or self.predicted.shape != (n,):
            raise ValueError(
                f"{n} rows of scores, but {self.targets.shape} targets and "
                f"{self.predicted.shape} predictions"
            )
        if len(self.classes) != n_classes:
            raise ValueError(f"{n_classes} columns of scores for {len(self.classes)} classes")
        if not np.isfinite(self.scores).all():
            raise ValueError("scores must be finite")

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def rankings(self) -> list[_Ranking]:
        """The order of positives and negatives of each class."""
        return [_Ranking.of(self.targets == c, self.scores[:, c]) for c in range(len(self.classes))]

    @cached_property
    def cells(self) -> csr_array:
        """Which cell of the confusion matrix each image falls in, shape (C * C, n)."""
        n_classes = len(self.classes)
        cell = self.targets.astype(np.int64) * n_classes + self.predicted
        return _indicator(cell, np.arange(len(self)), (n_classes**2, len(self)))


@dataclass(frozen=True)
class _Ranking:
    """One class's scores, reduced to what the rank statistic needs.

    The positives' distinct scores are levels, in rising order. ``gains`` (levels, n) has a one
    where a negative first lies below a level; a negative that ties with a level has one half there
    and one half at the next, so that the running sum over levels counts ties by half.
    ``at_level`` (levels, n) says which level each positive has.
    """

    gains: csr_array
    at_level: csr_array

    @classmethod
    def of(cls, positive: np.ndarray, scores: np.ndarray) -> _Ranking:
        levels, level = np.unique(scores[positive], return_inverse=True)
        shape = (len(levels), len(scores))
        negatives = np.flatnonzero(~positive)
        not_above = np.searchsorted(levels, scores[negatives], side="left")
        strictly_below = np.searchsorted(levels, scores[negatives], side="right")
        rows = np.concatenate([not_above, strictly_below])
        columns = np.concatenate([negatives, negatives])
        inside = rows < len(levels)
        return cls(
            _indicator(rows[inside], columns[inside], shape, 0.5),
            _indicator(level, np.flatnonzero(positive), shape),
        )

    def auroc(self, weights: np.ndarray) -> np.ndarray:
        """Mann-Whitney statistic of each weighting, NaN without positives or negatives."""
        positives = self.at_level @ weights
        wins = (self.gains @ weights).astype(np.float64)
        np.cumsum(wins, axis=0, out=wins)
        n_positive = positives.sum(axis=0, dtype=np.float64)
        n_negative = weights.sum(axis=0, dtype=np.float64) - n_positive
        pairs = n_positive * n_negative
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(pairs > 0, np.einsum("lr,lr->r", positives, wins) / pairs, np.nan)


def _indicator(
    rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int], value: float = 1.0
) -> csr_array:
    return csr_array((np.full(len(rows), value, np.float32), (rows, columns)), shape=shape)


def auroc_per_class(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against the rest.

    Parameters
    ----------
    predictions:
        Of n images and C classes.
    weights:
        Non-negative counts, shape (n, R), float32.

    Returns
    -------
    np.ndarray
        (R, C) float64; NaN where a class has no positive or no negative.
    """
    columns = [ranking.auroc(weights) for ranking in predictions.rankings]
    return np.stack(columns, axis=1)


def confusion(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Counts by true and predicted class, shape (R, C, C) float64, rows are true classes."""
    n_classes = len(predictions.classes)
    counts = np.asarray(predictions.cells @ weights, np.float64)
    return counts.T.reshape(-1, n_classes, n_classes)


def macro_auroc(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean one-vs-rest AUROC over the classes where it is defined, shape (R,)."""
    return _mean_of_defined(auroc_per_class(predictions, weights))


def macro_f1(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean F1 over the classes that are true or predicted somewhere, shape (R,)."""
    counts = confusion(predictions, weights)
    hits = np.diagonal(counts, axis1=1, axis2=2)
    return _mean_of_defined(_ratio(2 * hits, counts.sum(axis=1) + counts.sum(axis=2)))


def balanced_accuracy(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean recall over the classes that occur among the targets, shape (R,)."""
    counts = confusion(predictions, weights)
    hits = np.diagonal(counts, axis1=1, axis2=2)
    return _mean_of_defined(_ratio(hits, counts.sum(axis=2)))


def accuracy(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Share of images whose class is predicted, shape (R,)."""
    right = (predictions.targets == predictions.predicted).astype(np.float32)
    return _ratio((right @ weights).astype(np.float64), weights.sum(axis=0, dtype=np.float64))


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def _mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is defined."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))


def _without_images(predictions: Predictions) -> str:
    return "" if len(predictions) else "there is no test image"


def _without_a_class(predictions: Predictions) -> str:
    counts = np.bincount(predictions.targets, minlength=len(predictions.classes))
    absent = [name for name, n in zip(predictions.classes, counts, strict=True) if n == 0]
    if not len(predictions) or not absent:
        return _without_images(predictions)
    return f"no test image of {', '.join(absent)}"


@dataclass(frozen=True)
class Metric:
    """A metric, its name for people, and when it has no value.

    Parameters
    ----------
    title:
        How reports call it.
    replicates:
        Its value for each weighting: predictions, weights (n, R) -> (R,) float64.
    undefined:
        Why it has no value on these predictions; empty when it has one.
    """

    title: str
    replicates: Callable[[Predictions, np.ndarray], np.ndarray]
    undefined: Callable[[Predictions], str]

    def value(self, predictions: Predictions) -> tuple[float, str]:
        """Return the value on the test set and an empty note, or NaN and the reason."""
        reason = self.undefined(predictions)
        if reason:
            return float("nan"), reason
        once = np.ones((len(predictions), 1), np.float32)
        return float(self.replicates(predictions, once)[0]), ""


METRICS: dict[str, Metric] = {
    "macro_auroc": Metric("Macro AUROC", macro_auroc, _without_a_class),
    "macro_f1": Metric("Macro F1", macro_f1, _without_images),
    "balanced_accuracy": Metric("Balanced accuracy", balanced_accuracy, _without_images),
    "accuracy": Metric("Accuracy", accuracy, _without_images),
}
