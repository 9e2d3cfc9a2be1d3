"""Temperature scaling: one number, learnt on validation images, that makes scores less sure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

from dermino.evaluate.classification import Predictions

_LOWEST, _HIGHEST = 0.01, 100.0


@dataclass(frozen=True)
class Temperature:
    """What logits are divided by (Guo et al. 2017).

    Parameters
    ----------
    value:
        Above 1: the scores were too sure. NaN where none can be learnt.
    note:
        Why not, or how not to read it.
    """

    value: float
    note: str = ""

    def apply(self, predictions: Predictions) -> Predictions:
        """Return predictions with scaled probabilities; the predicted classes stay."""
        scaled = softmax(_logits(predictions) / self.value, axis=1)
        return replace(predictions, scores=scaled)


def fit_temperature(validation: Predictions) -> Temperature:
    """Choose the temperature of lowest negative log likelihood.

    Parameters
    ----------
    validation:
        Scores are probabilities. Logits are their logarithms: a constant that all classes of an
        image share changes nothing.
    """
    rows, targets = np.arange(len(validation)), validation.targets
    logits = _logits(validation)
    impossible = int(np.isneginf(logits[rows, targets]).sum())
    if impossible:
        reason = f"{impossible} of {len(rows)} validation images are given probability 0"
        return Temperature(float("nan"), f"{reason}, which no temperature changes")

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature), axis=1)[rows, targets].mean())

    bounds = np.log([_LOWEST, _HIGHEST])
    best = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    at_the_end = np.abs(best.x - bounds).min() < 1e-3
    note = "at the end of its range: the validation images do not determine it"
    return Temperature(float(np.exp(best.x)), note if at_the_end else "")


def _logits(predictions: Predictions) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(np.clip(predictions.scores.astype(np.float64), 0, None))
