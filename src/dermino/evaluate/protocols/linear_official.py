"""The linear probe with the authors' choice of the epoch, for comparison with their tables only."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import nn

from dermino.evaluate.linear_head import predict
from dermino.evaluate.pooled import Aggregate
from dermino.evaluate.protocol import PROTOCOLS, Outcome, Trial
from dermino.evaluate.protocols.linear import LinearProbe
from dermino.evaluate.readout import Readout, readout_for
from dermino.evaluate.task import TaskKind

WARNING = (
    "the epoch is chosen by the accuracy on the test images, as in the authors' scripts: every "
    "figure of this protocol is too high"
)


@PROTOCOLS.register("linear-official")
class OfficialLinearProbe(LinearProbe):
    """The linear probe that keeps the epoch of the best accuracy on the test images.

    The authors' scripts take the test images for validation. They also count an epoch in steps, by
    dataset (MED-Node's 50 epochs are 5 steps): set ``steps`` for that. Their random crops and flips
    of training images are not repeated; features are those of the linear probe.
    """

    title: ClassVar[str] = "Linear probe (authors' scripts)"
    description: ClassVar[str] = (
        "A linear layer on frozen features: Adam 5e-3, batches of 256, cosine to zero over 50 "
        f"epochs; {WARNING}."
    )
    kinds: ClassVar[frozenset[TaskKind]] = frozenset({"classification", "ordinal"})

    @property
    def parameters(self) -> dict[str, Any]:
        """All values of the optimisation."""
        return {**super().parameters, "selection": "test accuracy"}

    def run(self, trial: Trial) -> Outcome:
        """Train on the training rows and answer the test rows, which also choose the epoch."""
        readout = readout_for(trial.task, self.levels)
        head = self._train(trial, readout)
        best = Aggregate("Best test accuracy", self._judge(trial, readout, head), note=WARNING)
        return Outcome(predict(trial, readout, head, "test"), scores={"best_test_accuracy": best})

    def _judge(self, trial: Trial, readout: Readout, head: nn.Linear) -> float:
        """Return the accuracy on the test rows."""
        answers: Any = predict(trial, readout, head, "test")
        return float((answers.predicted == answers.targets).mean())
