"""``nonfinite.jsonl``: steps that were skipped because their loss or gradient was no number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dermino.errors import UserError
from dermino.pretrain.metrics_log import StepLog, read_metrics
from dermino.progress import console

FILE_NAME = "nonfinite.jsonl"
# DINOv3's patience: one bad batch is an accident, three in a row are a diverged run.
ALLOWED_IN_A_ROW = 2


class NonFiniteSteps:
    """Counts skipped steps, names each, and writes down what is needed to see it again.

    Parameters
    ----------
    run:
        The run folder.
    done, steps:
        Steps already done, and how many the run has; what was noted of later ones is dropped.
    writes:
        Only one process of a run writes; all of them count.

    Raises
    ------
    UserError
        If the file is there and a line of it is not as it was written.
    """

    def __init__(self, run: Path, done: int, steps: int, writes: bool) -> None:
        noted = (int(record["step"]) for record in read_metrics(run, FILE_NAME))
        self.noted = [step for step in noted if step <= done]
        self.steps = steps
        self._terms: list[str] = []
        self._log = StepLog(run, done, FILE_NAME) if writes else None

    def note(self, step: int, terms: list[str], **details: Any) -> None:
        """Note that step number ``step`` (from 1) was skipped.

        Parameters
        ----------
        terms:
            The loss terms that were no numbers; none if it was the gradient.
        details:
            What else to write down.
        """
        self.noted.append(step)
        self._terms = terms
        if self._log is not None:
            console.print(f"Step {step} is skipped: the {self._what} is no number.", soft_wrap=True)
            self._log.write({"step": step, "terms": terms, **details})

    def refusal(self, done: int) -> UserError | None:
        """Return why to stop after ``done`` steps; None to go on.

        Too many of them in a row, or all there are, were skipped.
        """
        row = 0
        while row < len(self.noted) and self.noted[-1 - row] == done - row:
            row += 1
        if row <= ALLOWED_IN_A_ROW and row < self.steps:
            return None
        return UserError(
            f"The {self._what} has not been a number since step {done - row + 1}; "
            f"{row} steps in a row were skipped.",
            "Lower optimizer.base_lr, lengthen optimizer.warmup_epochs, use precision=32-true, or "
            "check the starting weights; skipped steps have changed none. "
            f"{FILE_NAME} lists the images, dermino.pretrain.replay rebuilds a batch.",
        )

    @property
    def _what(self) -> str:
        return f"loss ({', '.join(self._terms)})" if self._terms else "gradient"
