"""The linear probe: one layer learnt on frozen features."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn
from torch.nn import functional as F

from dermino.evaluate.metrics import Predictions, macro_auroc
from dermino.evaluate.protocol import PROTOCOLS, EvaluationProtocol, Outcome, Trial
from dermino.evaluate.task import TaskKind


@PROTOCOLS.register("linear")
class LinearProbe(EvaluationProtocol):
    """A linear layer, cross-entropy and Adam, cosine to zero (paper, section 4.2.1).

    Features are used as they are, neither standardised nor augmented, and the rate falls at every
    step. An epoch is a true pass over the training rows, which the authors' scripts do not do;
    they also keep the best epoch on the test set. Here the last epoch is kept, or, where there are
    validation rows, the one with the best macro AUROC on them.

    Parameters
    ----------
    epochs:
        Passes over the training rows.
    learning_rate:
        Adam's rate at the first step, for ``batch_size`` rows.
    batch_size:
        Rows in a step; all of them where there are fewer.
    weight_std:
        Deviation of the initial weights; biases start at zero.
    """

    title: ClassVar[str] = "Linear probe"
    description: ClassVar[str] = (
        "A linear layer on frozen features: Adam 5e-3, batches of 256, cosine to zero over 50 "
        "epochs; the last epoch, or the best on validation where there is one."
    )
    kinds: ClassVar[frozenset[TaskKind]] = frozenset({"classification", "ordinal"})

    epochs: int = Field(50, ge=1)
    learning_rate: float = Field(5e-3, gt=0)
    batch_size: int = Field(256, ge=1)
    weight_std: float = Field(0.01, ge=0)

    @property
    def parameters(self) -> dict[str, Any]:
        """All values of the optimisation."""
        return {**super().parameters, "optimiser": "adam", "selection": "validation macro AUROC"}

    def run(self, trial: Trial) -> Outcome:
        """Train on the training rows and answer the test rows."""
        head = self._train(trial)
        task = trial.task
        scores = _probabilities(head, trial.part("test")[0])
        return Outcome(
            Predictions(
                targets=task.targets[task.rows("test")],
                predicted=scores.argmax(axis=1),
                scores=scores,
                classes=task.classes,
            )
        )

    def _train(self, trial: Trial) -> nn.Linear:
        random = torch.Generator().manual_seed(trial.seed)
        features, targets = trial.part("train")
        head = nn.Linear(features.shape[1], len(trial.task.classes))
        with torch.no_grad():
            head.weight.normal_(std=self.weight_std, generator=random)
            head.bias.zero_()
        head.to(trial.device)
        batches = -(-len(features) // self.batch_size)
        optimiser = torch.optim.Adam(head.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.epochs * batches)
        best, best_value = None, -np.inf
        for _ in range(self.epochs):
            order = torch.randperm(len(features), generator=random).to(trial.device)
            for rows in order.split(self.batch_size):
                optimiser.zero_grad()
                F.cross_entropy(head(features[rows]), targets[rows]).backward()
                optimiser.step()
                schedule.step()
            value = _validation_auroc(head, trial)
            if value >= best_value:
                best, best_value = copy.deepcopy(head), value
        return best or head


@torch.no_grad()
def _probabilities(head: nn.Linear, features: torch.Tensor) -> np.ndarray:
    return head(features).double().softmax(dim=1).cpu().numpy()


def _validation_auroc(head: nn.Linear, trial: Trial) -> float:
    """Macro AUROC on the validation rows; NaN, which no epoch beats, where there are none."""
    task = trial.task
    rows = task.rows("val")
    if not len(rows):
        return float("nan")
    scores = _probabilities(head, trial.part("val")[0])
    sample = Predictions(task.targets[rows], scores.argmax(axis=1), scores, task.classes)
    return float(macro_auroc(sample, np.ones((len(rows), 1), np.float32))[0])
