"""The kinds of task: what their targets are, what answers them, and which metrics judge that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dermino.evaluate.classification import CLASSIFICATION_METRICS, Predictions
from dermino.evaluate.metric import Metric
from dermino.evaluate.multilabel import MULTILABEL_METRICS, MultilabelPredictions
from dermino.evaluate.ordinal import ORDINAL_METRICS
from dermino.evaluate.regression import REGRESSION_METRICS, RegressionPredictions

AnyPredictions = Predictions | MultilabelPredictions | RegressionPredictions


@dataclass(frozen=True)
class Kind:
    """A kind of task.

    Parameters
    ----------
    title:
        For people.
    predictions:
        What a protocol answers with; None where it brings scores of its own.
    metrics:
        What the predictions are judged by.
    """

    title: str
    predictions: type[AnyPredictions] | None = None
    # Each metric reads the predictions of its kind, which a mapping's type cannot say.
    metrics: Mapping[str, Metric[Any]] = field(default_factory=dict)


KINDS: dict[str, Kind] = {
    "classification": Kind("Classification", Predictions, CLASSIFICATION_METRICS),
    "ordinal": Kind("Ordered classes", Predictions, ORDINAL_METRICS),
    "multilabel": Kind("Several labels", MultilabelPredictions, MULTILABEL_METRICS),
    "regression": Kind("A number", RegressionPredictions, REGRESSION_METRICS),
    "segmentation": Kind("Segmentation"),
    "caption": Kind("Captions"),
    # Neighbours can be looked at, nothing can be scored: the metrics are listed as undefined.
    "unlabelled": Kind("No labels", None, CLASSIFICATION_METRICS),
}
