"""What a linear layer has to say for each kind of task: its outputs, its loss, its answer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from dermino.evaluate.classification import Predictions
from dermino.evaluate.kinds import KINDS, AnyPredictions
from dermino.evaluate.multilabel import MultilabelPredictions
from dermino.evaluate.regression import RegressionPredictions
from dermino.evaluate.task import Task, TaskKind

READABLE: frozenset[TaskKind] = frozenset({"classification", "ordinal", "multilabel", "regression"})


class Readout(ABC):
    """How the outputs of a layer are trained for a kind of task, and read.

    Attributes
    ----------
    metric:
        The metric by which epochs and parameters are chosen on validation rows; higher is better.
    """

    metric: str = "macro_auroc"

    @property
    @abstractmethod
    def outputs(self) -> int:
        """Number K of outputs."""

    @abstractmethod
    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss over rows: (B, K) float32 and targets as a task has them -> ()."""

    @abstractmethod
    def answer(self, logits: np.ndarray, targets: np.ndarray) -> AnyPredictions:
        """Turn (n, K) float64 outputs into predictions, beside their targets."""


@dataclass(frozen=True)
class ClassReadout(Readout):
    """One of several classes: softmax and cross-entropy."""

    classes: Sequence[str]

    @property
    def outputs(self) -> int:
        """One a class."""
        return len(self.classes)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Cross-entropy; ``targets`` are (B,) int64, or (B, K) shares of mixed images."""
        return F.cross_entropy(logits, targets)

    def answer(self, logits: np.ndarray, targets: np.ndarray) -> Predictions:
        """Probabilities, and the class with the highest."""
        scores = torch.from_numpy(logits).softmax(dim=1).numpy()
        return Predictions(targets, scores.argmax(axis=1), scores, self.classes)


@dataclass(frozen=True)
class LabelReadout(Readout):
    """Any number of labels: a sigmoid each; what is not known (-1) teaches nothing."""

    classes: Sequence[str]

    @property
    def outputs(self) -> int:
        """One a label."""
        return len(self.classes)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Binary cross-entropy, summed over the known labels of a row; ``targets`` are (B, K)."""
        known = targets >= 0
        every = F.binary_cross_entropy_with_logits(
            logits, targets.clamp(min=0).to(logits.dtype), reduction="none"
        )
        return (every * known).sum() / len(logits)

    def answer(self, logits: np.ndarray, targets: np.ndarray) -> MultilabelPredictions:
        """Probabilities; a label is said to be present above one half."""
        scores = torch.from_numpy(logits).sigmoid().numpy()
        return MultilabelPredictions(targets, scores > 0.5, scores, self.classes)


@dataclass(frozen=True)
class LevelReadout(Readout):
    """Classes in an order: for each class but the lowest, whether the image is at least that.

    A sigmoid an output (Frank and Hall, ECML 2001, with one layer for all). The probability of a
    class is the difference of two neighbouring ones, after they have been made to fall.
    """

    classes: Sequence[str]
    metric: str = "quadratic_weighted_kappa"

    @property
    def outputs(self) -> int:
        """One less than there are classes."""
        return len(self.classes) - 1

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Binary cross-entropy, summed over the levels; ``targets`` are (B,) int64."""
        levels = torch.arange(1, len(self.classes), device=targets.device)
        reached = (targets[:, None] >= levels).to(logits.dtype)
        return F.binary_cross_entropy_with_logits(logits, reached, reduction="sum") / len(logits)

    def answer(self, logits: np.ndarray, targets: np.ndarray) -> Predictions:
        """Class probabilities; the predicted class is the highest that is more likely than not."""
        reached = np.minimum.accumulate(torch.from_numpy(logits).sigmoid().numpy(), axis=1)
        scores = -np.diff(reached, axis=1, prepend=1.0, append=0.0)
        return Predictions(targets, (reached > 0.5).sum(axis=1), scores, self.classes)


@dataclass(frozen=True)
class NumberReadout(Readout):
    """A number: squared error in units of the training targets' deviation."""

    centre: float
    scale: float
    metric: str = "r2"

    @property
    def outputs(self) -> int:
        """One."""
        return 1

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean squared error; ``targets`` are (B,) in their own unit."""
        return F.mse_loss(logits[:, 0], ((targets - self.centre) / self.scale).to(logits.dtype))

    def answer(self, logits: np.ndarray, targets: np.ndarray) -> RegressionPredictions:
        """Numbers in the targets' own unit."""
        return RegressionPredictions(targets, logits[:, 0] * self.scale + self.centre)


def readout_for(task: Task, levels: bool = False) -> Readout:
    """Return how a layer answers a task.

    Parameters
    ----------
    task:
        Of a kind in :data:`READABLE`; the training rows give a number's unit.
    levels:
        Answer an ordinal task level by level instead of class by class.
    """
    if task.kind == "multilabel":
        return LabelReadout(task.classes)
    if task.kind == "regression":
        targets = task.targets[task.rows("train")]
        return NumberReadout(float(targets.mean()), float(targets.std()) or 1.0)
    if task.kind == "ordinal" and levels:
        return LevelReadout(task.classes)
    return ClassReadout(task.classes)


def validation_value(task: Task, readout: Readout, predictions: AnyPredictions) -> float:
    """Return the readout's metric, over what is defined of it; NaN where nothing is."""
    metric = KINDS[task.kind].metrics[readout.metric]
    return float(metric.replicates(predictions, np.ones((len(predictions), 1), np.float32))[0])
