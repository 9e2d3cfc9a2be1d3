"""What a run writes while it trains, and how its processes stop together where it cannot."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dermino.data.manifest import Manifest
from dermino.errors import DiskFull, UserError
from dermino.pretrain.agreement import stop_together
from dermino.pretrain.checkpoint import Checkpoints
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.fabric import Fabric
from dermino.pretrain.logger import open_loggers
from dermino.pretrain.nonfinite import NonFiniteSteps
from dermino.pretrain.unreadable import UnreadableImages


class Journal:
    """Records, lists of skipped steps and unreadable images, and checkpoints.

    Only the first process writes. What goes wrong with it is kept until all processes hear of it,
    since the others would wait for the one that stopped alone.

    Parameters
    ----------
    fabric:
        The processes.
    config:
        The recipe.
    run:
        The run folder.
    manifest:
        The images.
    batch_size:
        Images of a step over all processes.
    done, steps:
        Steps already done, and how many the run has.

    Raises
    ------
    UserError
        In every process, if something that is there cannot be read or gone on with.

    Attributes
    ----------
    skipped, unreadable:
        What was noted so far.
    loggers:
        To be closed when the run ends; none but in the first process.
    """

    def __init__(
        self,
        fabric: Fabric,
        config: PretrainConfig,
        run: Path,
        manifest: Manifest,
        batch_size: int,
        done: int,
        steps: int,
    ) -> None:
        self.fabric, self.run, self.manifest = fabric, run, manifest
        self._trouble: Exception | None = None
        first = fabric.is_global_zero
        self._checkpoints = Checkpoints(run, config.keep_checkpoints, done, first)
        with self._kept():
            self.skipped = NonFiniteSteps(run, done, steps, first)
            self.unreadable = UnreadableImages(run, manifest, batch_size, done, first)
        self.stop_if_in_trouble()
        with self._kept():
            self.loggers = open_loggers(config, run, done, first)
        self.stop_if_in_trouble()

    @property
    def in_trouble(self) -> bool:
        """Whether this process cannot go on; the next agreement has to tell all of them."""
        return self._trouble is not None

    def log(self, record: Mapping[str, float]) -> None:
        """Write the record of a step."""
        with self._kept():
            self.loggers.log(record)

    def note_unreadable(self, step: int, rows: Sequence[int]) -> None:
        """Note the manifest rows that step number ``step`` (from 1) could not show."""
        with self._kept():
            self.unreadable.note(step, rows)

    def note_skipped(self, step: int, terms: list[str], seed: int, rows: list[int]) -> None:
        """Note that step number ``step`` was skipped: what is needed to see it again."""
        images = [str(self.manifest.path(row)) for row in rows]
        with self._kept():
            self.skipped.note(step, terms, seed=seed, rows=rows, images=images)

    def refusal(self, done: int) -> UserError | None:
        """Return why the run should stop after ``done`` steps, the same in all processes."""
        return self.skipped.refusal(done) or self.unreadable.refusal(done)

    def save(self, step: int, state: dict[str, Any], doubtful: bool = False) -> None:
        """Write a checkpoint; the first process does, the others wait and hear how it went.

        Arguments are those of :meth:`dermino.pretrain.checkpoint.Checkpoints.save`.
        """
        if not self.in_trouble:
            with self._kept():
                self._checkpoints.save(step, state, doubtful)
        self.stop_if_in_trouble()

    def refuse(self, error: UserError, step: int, state: dict[str, Any] | None) -> UserError:
        """Return the error that stops the run, saying what is saved.

        Parameters
        ----------
        error:
            What is wrong, the same in all processes.
        step, state:
            What to save before; None where there is nothing to go on from.
        """
        if state is not None:
            self.save(step, state, doubtful=True)
        return UserError(f"{error.message} {self._checkpoints.newest_in_words()}", error.remedy)

    def stop_if_in_trouble(self) -> None:
        """Stop all processes if one of them cannot go on; every process has to ask.

        Raises
        ------
        DiskFull
            If there is no space left, saying what is saved.
        Exception
            Whatever went wrong, in the process that it went wrong in, and a UserError in others.
        """
        trouble = self._trouble
        if isinstance(trouble, DiskFull):
            trouble = DiskFull(
                f"{trouble.message} {self._checkpoints.newest_in_words()}",
                "Free some space and go on with --resume; keep_checkpoints=1 needs the least.",
            )
            trouble.__cause__ = self._trouble
        stop_together(trouble, self.fabric.device)

    @contextmanager
    def _kept(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._trouble = self._trouble or error
