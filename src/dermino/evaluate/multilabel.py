"""Several labels an image: predictions and their metrics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from dermino.evaluate.metric import Metric, mean_of_defined, ratio, unusable
from dermino.evaluate.ranking import Ranking


@dataclass(frozen=True)
class MultilabelPredictions:
    """What was said about images that may have any number of C labels.

    Parameters
    ----------
    targets:
        Shape (n, C), integers: 1 present, 0 absent, -1 not known. What is not known counts
        neither for nor against.
    predicted:
        Shape (n, C), bool.
    scores:
        Higher is more likely, shape (n, C); metrics are undefined unless all are finite.
    classes:
        Names of the C labels.
    """

    targets: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray
    classes: Sequence[str]

    def __post_init__(self) -> None:
        shapes = {self.targets.shape, self.predicted.shape, self.scores.shape}
        if len(shapes) > 1 or self.scores.shape[1:] != (len(self.classes),):
            raise ValueError(f"shapes differ or do not fit {len(self.classes)} labels: {shapes}")

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def unusable(self) -> str:
        """Why nothing can be computed: no image, or scores that are not finite numbers."""
        return unusable(self.scores)

    @property
    def known(self) -> np.ndarray:
        """Where the truth is known, shape (n, C), bool."""
        return self.targets >= 0

    @cached_property
    def rankings(self) -> list[Ranking]:
        """The order of positives and negatives of each label."""
        return [
            Ranking.of(self.targets[:, c] == 1, self.scores[:, c]) for c in range(len(self.classes))
        ]

    def select(self, rows: np.ndarray) -> MultilabelPredictions:
        """Return some of the images: a boolean mask or row numbers."""
        return MultilabelPredictions(
            self.targets[rows], self.predicted[rows], self.scores[rows], self.classes
        )

    def columns(self) -> dict[str, pa.Array]:
        """Return ``target``, ``predicted`` and ``unknown`` (lists) and ``score:<class>``."""
        columns = {
            "target": self._named(self.targets == 1),
            "predicted": self._named(self.predicted),
            "unknown": self._named(~self.known),
        }
        for number, name in enumerate(self.classes):
            columns[f"score:{name}"] = pa.array(self.scores[:, number])
        return columns

    @classmethod
    def from_table(cls, table: pa.Table, classes: Sequence[str]) -> MultilabelPredictions:
        """Read what :meth:`columns` gave."""
        present, predicted, unknown = (
            np.array([[name in row for name in classes] for row in table[column].to_pylist()], bool)
            for column in ("target", "predicted", "unknown")
        )
        scores = np.column_stack([table[f"score:{name}"].to_numpy() for name in classes])
        return cls(np.where(unknown, -1, present.astype(np.int64)), predicted, scores, classes)

    def _named(self, chosen: np.ndarray) -> pa.Array:
        names = np.array(self.classes, object)
        return pa.array([names[row].tolist() for row in chosen], pa.list_(pa.string()))


def auroc_per_label(predictions: MultilabelPredictions, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each label, where known: (n, R) weights -> (R, C) float64."""
    return _per_label(predictions, weights, lambda c, known: predictions.rankings[c].auroc(known))


def average_precision_per_label(
    predictions: MultilabelPredictions, weights: np.ndarray
) -> np.ndarray:
    """Average precision of each label, where known: (n, R) weights -> (R, C) float64."""
    return _per_label(
        predictions,
        weights,
        lambda c, known: predictions.rankings[c].average_precision(known),
    )


def f1_per_label(predictions: MultilabelPredictions, weights: np.ndarray) -> np.ndarray:
    """F1 of each label, where known: (n, R) weights -> (R, C); NaN if neither true nor said."""
    return _per_label(
        predictions,
        weights,
        lambda c, known: _f1(predictions.targets[:, c] == 1, predictions.predicted[:, c], known),
    )


def _per_label(
    predictions: MultilabelPredictions,
    weights: np.ndarray,
    value: Callable[[int, np.ndarray], np.ndarray],
) -> np.ndarray:
    columns = [
        value(c, weights * predictions.known[:, c : c + 1].astype(weights.dtype))
        for c in range(len(predictions.classes))
    ]
    return np.stack(columns, axis=1)


def _f1(target: np.ndarray, predicted: np.ndarray, weights: np.ndarray) -> np.ndarray:
    hits, true, said = (
        weights[rows].sum(axis=0, dtype=np.float64)
        for rows in (target & predicted, target, predicted)
    )
    return ratio(2 * hits, true + said)


def _mean(
    per_label: Callable[[MultilabelPredictions, np.ndarray], np.ndarray],
) -> Callable[[MultilabelPredictions, np.ndarray], np.ndarray]:
    return lambda predictions, weights: mean_of_defined(per_label(predictions, weights))


def _without_positives(predictions: MultilabelPredictions) -> str:
    return _lacking(predictions, {1: "with"})


def _without_positives_or_negatives(predictions: MultilabelPredictions) -> str:
    return _lacking(predictions, {1: "with", 0: "without"})


def _lacking(predictions: MultilabelPredictions, wanted: dict[int, str]) -> str:
    reasons = []
    for value, word in wanted.items():
        there = (predictions.targets == value).any(axis=0)
        names = [name for name, any_ in zip(predictions.classes, there, strict=True) if not any_]
        if names:
            reasons.append(f"no test image {word} {', '.join(names)}")
    return "; ".join(reasons)


def _nothing_known(predictions: MultilabelPredictions) -> str:
    if (
        not (predictions.targets == 1).any()
        and not (predictions.predicted & predictions.known).any()
    ):
        return "no label is present or predicted where the truth is known"
    return ""


MULTILABEL_METRICS: dict[str, Metric[MultilabelPredictions]] = {
    "macro_auroc": Metric(
        "Macro AUROC", _mean(auroc_per_label), _without_positives_or_negatives, by_rank=True
    ),
    "macro_average_precision": Metric(
        "Macro average precision",
        _mean(average_precision_per_label),
        _without_positives,
        by_rank=True,
    ),
    "macro_f1": Metric("Macro F1", _mean(f1_per_label), _nothing_known),
}
