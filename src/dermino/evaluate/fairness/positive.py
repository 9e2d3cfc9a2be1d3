"""Several classes as one positive class, such as all malignant ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dermino.evaluate.classification import (
    CLASSIFICATION_METRICS,
    Predictions,
    auroc_per_class,
    f1_per_class,
)
from dermino.evaluate.metric import Metric

POSITIVE = "positive"


def merge(predictions: Predictions, positive: Sequence[str]) -> Predictions:
    """Turn several classes into one positive class; the scores of merged classes add up.

    Parameters
    ----------
    predictions:
        Of C classes whose scores are probabilities.
    positive:
        Names of classes; those that are not among the C are passed over.

    Returns
    -------
    Predictions
        Of the classes ``others`` and ``positive``. An image counts as predicted positive if its
        predicted class is among them.
    """
    chosen = np.isin(np.array(predictions.classes, object), list(positive))
    score = predictions.scores[:, chosen].sum(axis=1)
    return Predictions(
        chosen[predictions.targets].astype(np.int64),
        chosen[predictions.predicted].astype(np.int64),
        np.stack([predictions.scores.sum(axis=1) - score, score], axis=1),
        ("others", POSITIVE),
    )


def _without_positives(predictions: Predictions) -> str:
    # F1 would be 0 whatever is said, which is no failure of the encoder.
    return "" if predictions.targets.any() else "no test image of positive"


POSITIVE_METRICS: dict[str, Metric[Predictions]] = {
    "positive_auroc": Metric(
        "AUROC of the positive class",
        lambda own, weights: auroc_per_class(own, weights)[:, 1],
        CLASSIFICATION_METRICS["macro_auroc"].undefined,
        by_rank=True,
    ),
    "positive_f1": Metric(
        "F1 of the positive class",
        lambda own, weights: f1_per_class(own, weights)[:, 1],
        _without_positives,
    ),
}
