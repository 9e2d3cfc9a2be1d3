"""The linear probe: one layer learnt on frozen features."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from dermino.evaluate.linear_head import answer, predict
from dermino.evaluate.protocol import PROTOCOLS, EvaluationProtocol, Outcome, Trial
from dermino.evaluate.readout import READABLE, Readout, readout_for, validation_value
from dermino.evaluate.task import TaskKind


@PROTOCOLS.register("linear")
class LinearProbe(EvaluationProtocol):
    """A linear layer, cross-entropy and Adam, cosine to zero (paper, section 4.2.1).

    Features are used as they are, neither standardised nor augmented, and the rate falls at every
    step. An epoch is a true pass over the training rows, which the authors' scripts do not do;
    they also keep the best epoch on the test set. Here the last epoch is kept, or, where there are
    validation rows, the one with the best macro AUROC on them. Several labels are learnt by binary
    cross-entropy, numbers by squared error, the best epoch then being that of the highest R².

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
    levels:
        Answer an ordinal task level by level (is it at least this grade?), not class by class; the
        best epoch is then that of the highest quadratic weighted kappa.
    """

    title: ClassVar[str] = "Linear probe"
    description: ClassVar[str] = (
        "A linear layer on frozen features: Adam 5e-3, batches of 256, cosine to zero over 50 "
        "epochs; the last epoch, or the best on validation where there is one."
    )
    kinds: ClassVar[frozenset[TaskKind]] = READABLE

    epochs: int = Field(50, ge=1)
    learning_rate: float = Field(5e-3, gt=0)
    batch_size: int = Field(256, ge=1)
    weight_std: float = Field(0.01, ge=0)
    levels: bool = False

    @property
    def parameters(self) -> dict[str, Any]:
        """All values of the optimisation."""
        selection = "validation macro AUROC, R² for numbers, kappa for levels"
        return {**super().parameters, "optimiser": "adam", "selection": selection}

    def run(self, trial: Trial) -> Outcome:
        """Train on the training rows and answer the test rows."""
        readout = readout_for(trial.task, self.levels)
        return answer(trial, readout, self._train(trial, readout))

    def _train(self, trial: Trial, readout: Readout) -> nn.Linear:
        random = torch.Generator().manual_seed(trial.seed)
        features, targets = trial.part("train")
        head = nn.Linear(features.shape[1], readout.outputs)
        with torch.no_grad():
            head.weight.normal_(std=self.weight_std, generator=random)
            head.bias.zero_()
        head.to(trial.device)
        batches = -(-len(features) // self.batch_size)
        optimiser = torch.optim.Adam(head.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, self.epochs * batches)
        validates = len(trial.task.rows("val")) > 0
        best, best_value = None, -np.inf
        for _ in range(self.epochs):
            order = torch.randperm(len(features), generator=random).to(trial.device)
            for rows in order.split(self.batch_size):
                optimiser.zero_grad()
                readout.loss(head(features[rows]), targets[rows]).backward()
                optimiser.step()
                schedule.step()
            if validates:
                validated = predict(trial, readout, head, "val")
                value = validation_value(trial.task, readout, validated)
                if value >= best_value:
                    best, best_value = copy.deepcopy(head), value
        return best or head
