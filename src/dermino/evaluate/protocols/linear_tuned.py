"""The linear probe tuned on validation rows: logistic regression over a grid of costs."""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import nn

from dermino.errors import UserError
from dermino.evaluate.linear_head import answer, fit_lbfgs, predict, standardisation
from dermino.evaluate.pooled import Aggregate
from dermino.evaluate.protocol import PROTOCOLS, EvaluationProtocol, Outcome, Trial
from dermino.evaluate.readout import READABLE, Readout, readout_for, validation_value
from dermino.evaluate.task import Task, TaskKind


@PROTOCOLS.register("linear-tuned")
class TunedLinearProbe(EvaluationProtocol):
    """Logistic regression whose cost C is chosen on validation rows.

    C means what it means in scikit-learn: the sum of losses over the training rows times C, plus
    ||W||² / 2. The default grid spans that of DINOv2's ``log_regression`` (10^-6 to 10^5) in half
    decades. Features are standardised by the training rows. Costs rise, each fit goes on from the
    last, and of equal ones the smallest cost wins. A task without validation rows gives a fifth of
    its training rows, patients and lesions undivided. The metric is macro AUROC, or R² for numbers
    and quadratic weighted kappa for levels.

    Parameters
    ----------
    costs:
        The grid of C.
    iterations:
        Of L-BFGS for each cost, at most.
    refit:
        Fit the chosen cost again on training and validation rows together. Then no validation
        predictions are left for calibration to learn from.
    levels:
        Answer an ordinal task level by level (is it at least this grade?), not class by class.
    """

    title: ClassVar[str] = "Linear probe (tuned)"
    description: ClassVar[str] = (
        "Logistic regression on standardised frozen features: L-BFGS, the cost chosen on "
        "validation images from 23 values between 1e-6 and 1e5."
    )
    kinds: ClassVar[frozenset[TaskKind]] = READABLE

    costs: tuple[float, ...] = tuple(10 ** (half / 2) for half in range(-12, 11))
    iterations: int = Field(100, ge=1)
    refit: bool = False
    levels: bool = False

    @field_validator("costs")
    @classmethod
    def _rising_and_positive(cls, costs: tuple[float, ...]) -> tuple[float, ...]:
        if not costs or min(costs) <= 0:
            raise ValueError("costs must be positive, and there must be one")
        return tuple(sorted(costs))

    @property
    def parameters(self) -> dict[str, Any]:
        """All values of the optimisation."""
        return {**super().parameters, "optimiser": "L-BFGS, strong Wolfe", "standardised": True}

    def check(self, task: Task) -> None:
        """Refuse a task that has nothing to choose on."""
        if not len(task.rows("val")) and len(task.rows("train")) < 2:
            raise UserError(
                f"Task '{task.name}' has one training image and none to validate on.",
                "Use --protocol linear-panderm, which chooses nothing.",
            )

    def run(self, trial: Trial) -> Outcome:
        """Choose the cost on validation rows, and answer the test rows."""
        trial = trial.with_validation()
        readout = readout_for(trial.task, self.levels)
        features, targets = trial.part("train")
        head = _Standardised(features, readout)
        best, best_cost, best_value = head, self.costs[0], -np.inf
        for cost in self.costs:
            self._fit(head, features, targets, readout, cost)
            validated = predict(trial, readout, head, "val")
            value = validation_value(trial.task, readout, validated)
            if value > best_value:
                best, best_cost, best_value = copy.deepcopy(head), cost, value
        outcome = answer(trial, readout, best)
        if self.refit:
            held_out, held_out_targets = trial.part("val")
            features = torch.cat([features, held_out])
            best = _Standardised(features, readout)
            self._fit(best, features, torch.cat([targets, held_out_targets]), readout, best_cost)
            outcome = Outcome(predict(trial, readout, best, "test"))
        chosen = Aggregate(
            "Chosen cost", best_cost, note=f"{readout.metric} {best_value:.4f} on validation images"
        )
        return Outcome(
            outcome.predictions,
            scores={"chosen_cost": chosen},
            validation=outcome.validation,
            validation_rows=outcome.validation_rows,
        )

    def _fit(
        self,
        head: _Standardised,
        features: torch.Tensor,
        targets: torch.Tensor,
        readout: Readout,
        cost: float,
    ) -> None:
        fit_lbfgs(
            head.linear,
            head.standardise(features),
            targets,
            readout,
            lambda weight: weight.square().sum() / (2 * cost * len(features)),
            self.iterations,
        )


class _Standardised(nn.Module):
    """A linear layer, zero at first, on features with mean 0 and deviation 1."""

    def __init__(self, features: torch.Tensor, readout: Readout) -> None:
        super().__init__()
        self.mean, self.deviation = standardisation(features)
        self.linear = nn.Linear(features.shape[1], readout.outputs, device=features.device)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def standardise(self, features: torch.Tensor) -> torch.Tensor:
        return (features - self.mean) / self.deviation

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.linear(self.standardise(features))
