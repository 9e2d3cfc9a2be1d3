"""What a metric is: a value for many weightings of the test images at once.

A weighting counts how often each test image occurs in a bootstrap replicate; all ones is the test
set itself. One implementation thus gives the value and its replicates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np


class Answers(Protocol):
    """What metrics are computed of: answers for n test images."""

    def __len__(self) -> int: ...

    @property
    def unusable(self) -> str:
        """Why nothing can be computed of them; empty when something can."""


PredictionsT = TypeVar("PredictionsT", bound=Answers)


def unusable(answers: np.ndarray) -> str:
    """Return why nothing can be computed of the answers for n images, (n, ...); else nothing."""
    if not len(answers):
        return "there is no test image"
    bad = len(answers) - int(np.isfinite(answers).reshape(len(answers), -1).all(axis=1).sum())
    return f"{bad} of {len(answers)} images have answers that are not finite numbers" if bad else ""


def always_defined(predictions: Answers) -> str:
    """Return no reason for being undefined."""
    return ""


def _for_all(predictions: Answers) -> bool:
    return True


@dataclass(frozen=True)
class Metric(Generic[PredictionsT]):
    """A metric, its name for people, and when it has no value.

    ``PredictionsT`` is what it reads: the predictions of a kind of task
    (:data:`dermino.evaluate.kinds.KINDS`).

    Parameters
    ----------
    title:
        How reports call it.
    replicates:
        Its value for each weighting: predictions, weights (n, R) -> (R,) float64.
    undefined:
        Why it has no value on these predictions, which are usable; empty when it has one.
    applies:
        Whether it says anything of its own about such predictions, such as the best three of
        three classes.
    by_rank:
        It reads only the order of each class's scores over the images.
    """

    title: str
    replicates: Callable[[PredictionsT, np.ndarray], np.ndarray]
    undefined: Callable[[PredictionsT], str] = always_defined
    applies: Callable[[PredictionsT], bool] = _for_all
    by_rank: bool = False

    def value(self, predictions: PredictionsT) -> tuple[float, str]:
        """Return the value on the test set and an empty note, or NaN and the reason."""
        reason = predictions.unusable or self.undefined(predictions)
        if reason:
            return float("nan"), reason
        once = np.ones((len(predictions), 1), np.float32)
        return float(self.replicates(predictions, once)[0]), ""


def applicable(
    metrics: Mapping[str, Metric[PredictionsT]], predictions: PredictionsT
) -> dict[str, Metric[PredictionsT]]:
    """Return the metrics that say something of their own about the predictions."""
    return {name: metric for name, metric in metrics.items() if metric.applies(predictions)}


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Divide elementwise; NaN where ``whole`` is not positive."""
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Mean over the last axis of what is not NaN; NaN where nothing is defined."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0).sum(axis=-1), defined.sum(axis=-1))
