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

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from functools import cached_property
from typing import Generic, TypeVar

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from dermino.evaluate.ranking import Ranking, indicator

PredictionsT = TypeVar("PredictionsT", bound=Sized)


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

    def select(self, rows: np.ndarray) -> Predictions:
        """Return some of the images: a boolean mask or row numbers."""
        return Predictions(
            self.targets[rows], self.predicted[rows], self.scores[rows], self.classes
        )

    def columns(self) -> dict[str, pa.Array]:
        """Return ``target``, ``predicted`` and ``score:<class>``, one value an image each."""
        names = pa.array(self.classes, pa.string())
        columns = {
            "target": names.take(pa.array(self.targets)),
            "predicted": names.take(pa.array(self.predicted)),
        }
        for number, name in enumerate(self.classes):
            columns[f"score:{name}"] = pa.array(self.scores[:, number])
        return columns

    @classmethod
    def from_table(cls, table: pa.Table, classes: Sequence[str]) -> Predictions:
        """Read what :meth:`columns` gave."""
        code = {name: number for number, name in enumerate(classes)}
        targets, predicted = (
            np.array([code[name] for name in table[column].to_pylist()], np.int64)
            for column in ("target", "predicted")
        )
        scores = np.column_stack([table[f"score:{name}"].to_numpy() for name in classes])
        return cls(targets, predicted, scores, classes)

    @cached_property
    def rankings(self) -> list[Ranking]:
        """The order of positives and negatives of each class."""
        return [Ranking.of(self.targets == c, self.scores[:, c]) for c in range(len(self.classes))]

    @cached_property
    def cells(self) -> csr_array:
        """Which cell of the confusion matrix each image falls in, shape (C * C, n)."""
        n_classes = len(self.classes)
        cell = self.targets.astype(np.int64) * n_classes + self.predicted
        return indicator(cell, np.arange(len(self)), (n_classes**2, len(self)))


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
    return mean_of_defined(auroc_per_class(predictions, weights))


def macro_f1(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean F1 over the classes that are true or predicted somewhere, shape (R,)."""
    counts = confusion(predictions, weights)
    hits = np.diagonal(counts, axis1=1, axis2=2)
    return mean_of_defined(ratio(2 * hits, counts.sum(axis=1) + counts.sum(axis=2)))


def balanced_accuracy(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean recall over the classes that occur among the targets, shape (R,)."""
    counts = confusion(predictions, weights)
    hits = np.diagonal(counts, axis1=1, axis2=2)
    return mean_of_defined(ratio(hits, counts.sum(axis=2)))


def accuracy(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Share of images whose class is predicted, shape (R,)."""
    right = (predictions.targets == predictions.predicted).astype(np.float32)
    return ratio((right @ weights).astype(np.float64), weights.sum(axis=0, dtype=np.float64))


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide elementwise; NaN where ``whole`` is not positive."""
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is defined."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))


def without_images(predictions: Sized) -> str:
    """Return why nothing has a value: there is no image; else nothing."""
    return "" if len(predictions) else "there is no test image"


def _without_a_class(predictions: Predictions) -> str:
    counts = np.bincount(predictions.targets, minlength=len(predictions.classes))
    absent = [name for name, n in zip(predictions.classes, counts, strict=True) if n == 0]
    if not len(predictions) or not absent:
        return without_images(predictions)
    return f"no test image of {', '.join(absent)}"


@dataclass(frozen=True)
class Metric(Generic[PredictionsT]):
    """A metric, its name for people, and when it has no value.

    ``PredictionsT`` is what it reads: :class:`Predictions` or those of another kind of task
    (:data:`dermino.evaluate.kinds.KINDS`).

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
    replicates: Callable[[PredictionsT, np.ndarray], np.ndarray]
    undefined: Callable[[PredictionsT], str]

    def value(self, predictions: PredictionsT) -> tuple[float, str]:
        """Return the value on the test set and an empty note, or NaN and the reason."""
        reason = self.undefined(predictions)
        if reason:
            return float("nan"), reason
        once = np.ones((len(predictions), 1), np.float32)
        return float(self.replicates(predictions, once)[0]), ""


METRICS: dict[str, Metric[Predictions]] = {
    "macro_auroc": Metric("Macro AUROC", macro_auroc, _without_a_class),
    "macro_f1": Metric("Macro F1", macro_f1, without_images),
    "balanced_accuracy": Metric("Balanced accuracy", balanced_accuracy, without_images),
    "accuracy": Metric("Accuracy", accuracy, without_images),
}
