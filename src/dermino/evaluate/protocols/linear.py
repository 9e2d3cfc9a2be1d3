"""The linear probe: one layer learnt on frozen features."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import nn

from dermino.evaluate.linear_head import answer, one_thread, predict
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
    steps:
        Steps in all, of which ``epochs`` are then equal parts; None: as many as the passes take.
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
    steps: int | None = Field(None, ge=1)
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
        with one_thread():
            return answer(trial, readout, self._train(trial, readout))

    def _train(self, trial: Trial, readout: Readout) -> nn.Linear:
        random = torch.Generator().manual_seed(trial.seed)
        features, targets = trial.part("train")
        head = nn.Linear(features.shape[1], readout.outputs)
        with torch.no_grad():
            head.weight.normal_(std=self.weight_std, generator=random)
            head.bias.zero_()
        head.to(trial.device)
        steps = self.steps or self.epochs * -(-len(features) // self.batch_size)
        optimiser = torch.optim.Adam(head.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
        batches = _batches(len(features), self.batch_size, random)
        best, best_value = None, -np.inf
        for epoch in range(self.epochs):
            first, last = (steps * number // self.epochs for number in (epoch, epoch + 1))
            for rows in islice(batches, last - first):
                rows = rows.to(trial.device)
                optimiser.zero_grad()
                readout.loss(head(features[rows]), targets[rows]).backward()
                optimiser.step()
                schedule.step()
            value = self._judge(trial, readout, head)
            if value is not None and value >= best_value:
                best, best_value = copy.deepcopy(head), value
        return best or head

    def _judge(self, trial: Trial, readout: Readout, head: nn.Linear) -> float | None:
        """Return what the best epoch is chosen by; None: the last one is kept."""
        if not len(trial.task.rows("val")):
            return None
        return validation_value(trial.task, readout, predict(trial, readout, head, "val"))


def _batches(count: int, size: int, random: torch.Generator) -> Iterator[torch.Tensor]:
    """Yield row numbers, all of them once before any comes again."""
    while True:
        yield from torch.randperm(count, generator=random).split(size)
