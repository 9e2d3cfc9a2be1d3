"""Classes in an order, such as grades of acne: how far off, not only how often."""

from __future__ import annotations

import numpy as np

from dermino.evaluate.classification import (
    CLASSIFICATION_METRICS,
    Predictions,
    confusion,
    kappa,
    of_one_class,
)
from dermino.evaluate.metric import Metric, ratio


def quadratic_weighted_kappa(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Agreement beyond chance, errors weighted by the square of their distance in classes.

    Parameters
    ----------
    predictions:
        Of n images; the order of the classes is the scale.
    weights:
        Non-negative counts, shape (n, R), float32.

    Returns
    -------
    np.ndarray
        (R,) float64; NaN where all is one class, true and predicted.
    """
    counts = confusion(predictions, weights)
    grades = np.arange(len(predictions.classes))
    return kappa(counts, np.square(grades[:, None] - grades[None, :]).astype(np.float64))


def mean_absolute_error(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean distance between true and predicted class, in classes: (n, R) -> (R,) float64."""
    distance = np.abs(predictions.targets - predictions.predicted).astype(np.float64)
    return ratio(distance @ weights, weights.sum(axis=0, dtype=np.float64))


ORDINAL_METRICS: dict[str, Metric[Predictions]] = {
    "quadratic_weighted_kappa": Metric(
        "Quadratic weighted kappa", quadratic_weighted_kappa, of_one_class
    ),
    "mean_absolute_error": Metric("Mean absolute error", mean_absolute_error),
    **CLASSIFICATION_METRICS,
}
