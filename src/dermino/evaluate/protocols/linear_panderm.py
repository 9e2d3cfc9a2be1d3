"""The linear probe of PanDerm: logistic regression by L-BFGS on all training rows."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field

from dermino.evaluate.linear_head import answer, fit_lbfgs, new_head
from dermino.evaluate.protocol import PROTOCOLS, EvaluationProtocol, Outcome, Trial
from dermino.evaluate.readout import READABLE, readout_for
from dermino.evaluate.task import TaskKind


@PROTOCOLS.register("linear-panderm")
class PanDermLinearProbe(EvaluationProtocol):
    """Logistic regression with cost C = D K / 100, for D dimensions and K outputs.

    Features are used as they are. Validation rows are neither learnt from nor used to choose. What
    is minimised is the mean loss plus ||W|| / (2 C), with the norm not squared, as in PanDerm's
    published code (``linear_probe.py``); ``penalty=squared`` is the textbook's and scikit-learn's
    ||W||² / (2 C n) for n training rows.

    Parameters
    ----------
    cost:
        C; None: D K / 100.
    penalty:
        ``norm`` or ``squared``.
    iterations:
        Of L-BFGS, at most.
    """

    title: ClassVar[str] = "Linear probe (PanDerm)"
    description: ClassVar[str] = (
        "Logistic regression on frozen features: L-BFGS, at most 1,000 iterations, "
        "C = dimensions x classes / 100; validation images are not used."
    )
    kinds: ClassVar[frozenset[TaskKind]] = READABLE

    cost: float | None = Field(None, gt=0)
    penalty: Literal["norm", "squared"] = "norm"
    iterations: int = Field(1000, ge=1)

    @property
    def parameters(self) -> dict[str, Any]:
        """All values of the optimisation."""
        return {**super().parameters, "optimiser": "L-BFGS, strong Wolfe"}

    def run(self, trial: Trial) -> Outcome:
        """Fit the training rows and answer the test rows."""
        readout = readout_for(trial.task)
        features, targets = trial.part("train")
        dimension = features.shape[1]
        cost = self.cost or dimension * readout.outputs / 100
        head = new_head(dimension, readout, trial.seed).to(trial.device)

        def penalty(weight: torch.Tensor) -> torch.Tensor:
            if self.penalty == "norm":
                return weight.norm() / (2 * cost)
            return weight.square().sum() / (2 * cost * len(features))

        fit_lbfgs(head, features, targets, readout, penalty, self.iterations)
        return answer(trial, readout, head)
