"""``nonfinite.jsonl``: steps that were skipped because their loss or gradient was no number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dermino.errors import UserError
from dermino.pretrain.metrics_log import StepLog, read_metrics

FILE_NAME = "nonfinite.jsonl"
# DINOv3's patience: one bad batch is an accident, three in a row are a diverged run.
ALLOWED_IN_A_ROW = 2


class NonFiniteSteps:
    """Counts skipped steps and writes down what is needed to see each of them again.

    Parameters
    ----------
    run:
        The run folder.
    done:
        Steps already done; what was noted of later ones is dropped.
    writes:
        Only one process of a run writes; all of them count.
    """

    def __init__(self, run: Path, done: int, writes: bool) -> None:
        noted = (int(record["step"]) for record in read_metrics(run, FILE_NAME))
        self.steps = [step for step in noted if step <= done]
        self._log = StepLog(run, done, FILE_NAME) if writes else None

    def note(self, step: int, terms: list[str], **details: Any) -> None:
        """Note that step number ``step`` (from 1) was skipped.

        Parameters
        ----------
        terms:
            The loss terms that were no numbers; none if it was the gradient.
        details:
            What else to write down.

        Raises
        ------
        UserError
            If this was one too many in a row.
        """
        self.steps.append(step)
        if self._log is not None:
            self._log.write({"step": step, "terms": terms, **details})
        if self.in_a_row > ALLOWED_IN_A_ROW:
            self.refuse(terms)

    @property
    def in_a_row(self) -> int:
        """How many skipped steps directly precede now, the last one noted included."""
        row = 0
        while row < len(self.steps) and self.steps[-1 - row] == self.steps[-1] - row:
            row += 1
        return row

    def refuse(self, terms: list[str]) -> None:
        """Stop the run and say what usually helps."""
        of = f"loss ({', '.join(terms)})" if terms else "gradient"
        raise UserError(
            f"The {of} has not been a number since step {self.steps[-self.in_a_row]}; "
            f"{self.in_a_row} steps in a row were skipped.",
            "Lower optimizer.base_lr, lengthen optimizer.warmup_epochs, use precision=32-true, or "
            "check the starting weights; the checkpoints are from before. "
            f"{FILE_NAME} lists the images, dermino.pretrain.replay rebuilds a batch.",
        )
