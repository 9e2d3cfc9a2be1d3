"""Yes-or-no decisions of a classifier, at its own choice of class or at a fixed specificity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dermino.evaluate.classification import Predictions
from dermino.evaluate.metric import Metric, mean_of_defined, ratio, unusable


@dataclass(frozen=True)
class Decisions:
    """Answers to E questions, such as whether an image shows a melanoma.

    Parameters
    ----------
    true, said:
        Shape (n, E), bool.
    questions:
        Their E names.
    """

    true: np.ndarray
    said: np.ndarray
    questions: Sequence[str]

    def __len__(self) -> int:
        return len(self.true)

    @property
    def unusable(self) -> str:
        """Why nothing can be computed: there is no image."""
        return unusable(self.true)

    def select(self, rows: np.ndarray) -> Decisions:
        """Return some of the images: a boolean mask or row numbers."""
        return Decisions(self.true[rows], self.said[rows], self.questions)

    def only(self, question: str) -> Decisions:
        """Return the decisions about one question, or none if it is not asked."""
        asked = np.array([name == question for name in self.questions], bool)
        return Decisions(self.true[:, asked], self.said[:, asked], [question] * int(asked.sum()))

    def sensitivity(self, weights: np.ndarray) -> np.ndarray:
        """Share of the true that are said to be: (n, R) weights -> (R, E), NaN without any."""
        return _share(self.said, self.true, weights)

    def false_positive_rate(self, weights: np.ndarray) -> np.ndarray:
        """Share of the others that are said to be: (n, R) weights -> (R, E), NaN without any."""
        return _share(self.said, ~self.true, weights)

    def selection_rate(self, weights: np.ndarray) -> np.ndarray:
        """Share of all that are said to be: (n, R) weights -> (R, E), NaN without any."""
        return _share(self.said, np.ones_like(self.true), weights)


def chosen_classes(predictions: Predictions) -> Decisions:
    """Ask for each class whether it is the predicted one."""
    return Decisions(
        _one_hot(predictions.targets, predictions),
        _one_hot(predictions.predicted, predictions),
        predictions.classes,
    )


def specificity_thresholds(predictions: Predictions, specificity: float) -> np.ndarray:
    """Return for each class the score above which an image is said to be of it.

    It is the lowest that at least this share of the other classes' images do not exceed.

    Parameters
    ----------
    predictions:
        Where thresholds are chosen: validation images.
    specificity:
        Between 0 and 1.

    Returns
    -------
    np.ndarray
        (C,) float64; NaN for a class without others.
    """
    thresholds = np.full(len(predictions.classes), np.nan)
    for number, scores in enumerate(predictions.scores.T):
        others = np.sort(scores[predictions.targets != number])
        if len(others):
            # A share such as 0.9 of 10 must not become 10 by rounding.
            spared = int(np.ceil(specificity * len(others) - 1e-9))
            thresholds[number] = others[spared - 1]
    return thresholds


def decide(predictions: Predictions, thresholds: np.ndarray) -> Decisions:
    """Say of each class whether the image is of it, by thresholds of shape (C,).

    Classes without a threshold are left out.
    """
    usable = ~np.isnan(thresholds)
    said = predictions.scores > thresholds
    true = _one_hot(predictions.targets, predictions)
    names = [name for name, kept in zip(predictions.classes, usable, strict=True) if kept]
    return Decisions(true[:, usable], said[:, usable], names)


def sensitivity_metric(title: str) -> Metric[Decisions]:
    """Mean sensitivity over the questions; undefined where one has no true image."""
    return Metric(title, _mean(Decisions.sensitivity), lambda own: _lacking(own, own.true))


def specificity_metric(title: str) -> Metric[Decisions]:
    """Mean specificity over the questions; undefined where every image is true of one."""
    return Metric(
        title,
        lambda own, weights: 1 - _mean(Decisions.false_positive_rate)(own, weights),
        lambda own: _lacking(own, ~own.true, "other than "),
    )


def _one_hot(classes: np.ndarray, predictions: Predictions) -> np.ndarray:
    return classes[:, None] == np.arange(len(predictions.classes))


def _share(said: np.ndarray, among: np.ndarray, weights: np.ndarray) -> np.ndarray:
    counts = weights.T.astype(np.float64)
    return ratio(counts @ (said & among), counts @ among)


def _mean(
    rate: Callable[[Decisions, np.ndarray], np.ndarray],
) -> Callable[[Decisions, np.ndarray], np.ndarray]:
    return lambda decisions, weights: mean_of_defined(rate(decisions, weights))


def _lacking(decisions: Decisions, needed: np.ndarray, what: str = "") -> str:
    there = needed.sum(axis=0) > 0
    names = [name for name, any_ in zip(decisions.questions, there, strict=True) if not any_]
    return f"no test image {what or 'of '}{', '.join(names)}" if names else ""
