"""Checkpoints of a run: written whole or not at all, the newest readable one taken up again."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch

from dermino.errors import DiskFull, UserError
from dermino.files import atomic_path
from dermino.progress import console

FOLDER = "checkpoints"
KEYS = frozenset({"step", "method", "optimizer"})
_NAME = re.compile(r"step_(\d+)\.pt$")


class Checkpoints:
    """The checkpoints of a run as the process that writes them keeps them.

    Parameters
    ----------
    run:
        The run folder.
    keep:
        How many stay.
    begun:
        The step this process took the run up at; 0 = its start. Checkpoints of later steps were
        there and could not be read: they count for nothing, and go once there is a new one.
    writes:
        Only one process of a run writes.
    """

    def __init__(self, run: Path, keep: int, begun: int, writes: bool) -> None:
        self.run, self.keep, self.begun, self.writes = run, keep, begun, writes
        self._written: set[Path] = set()

    def save(self, step: int, state: dict[str, Any], doubtful: bool = False) -> None:
        """Write the state after ``step`` steps and remove all but the newest checkpoints.

        What a process left that was killed while it wrote goes too.

        Parameters
        ----------
        step, state:
            What to write.
        doubtful:
            Something is wrong with the run: older checkpoints stay, and weights that are no
            numbers are not written.

        Raises
        ------
        DiskFull
            If the checkpoint does not fit; the earlier ones stay.
        """
        path = self.run / FOLDER / f"step_{step:08d}.pt"
        if not self.writes:
            self._written.add(path)
            return
        if doubtful and not _is_sound(state):
            return
        for torn in (self.run / FOLDER).glob(".step_*.tmp"):
            torn.unlink(missing_ok=True)
        try:
            with atomic_path(path) as temporary:
                torch.save(state, temporary)
        except DiskFull as error:
            needed, free = _bytes(state) / 2**20, shutil.disk_usage(path.parent).free / 2**20
            raise DiskFull(
                f"The disk is full: '{path}' needs {needed:,.1f} MiB, {free:,.1f} are free.",
                error.remedy,
            ) from error
        self._written.add(path)
        if not doubtful:
            self._remove_others_than(path)

    def newest_in_words(self) -> str:
        """Return a sentence on what ``--resume`` would go on from."""
        paths = self._sound()
        return f"The newest checkpoint is {paths[0].name}." if paths else "None is saved yet."

    def _remove_others_than(self, newest: Path) -> None:
        older = [path for path in self._sound() if path != newest]
        for path in {*_existing(self.run)} - {newest, *older[: self.keep - 1]}:
            path.unlink(missing_ok=True)

    def _sound(self) -> list[Path]:
        """Return the checkpoints of a run, newest first, but those that could not be read."""
        paths = _existing(self.run)
        return [path for path in paths if _step(path) <= self.begun or path in self._written]


def _is_sound(state: Mapping[str, Any]) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in state["method"].values())


def _bytes(value: Any) -> int:
    """Count the bytes of all tensors in nested dictionaries and lists."""
    if isinstance(value, torch.Tensor):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(_bytes(item) for item in value.values())
    return sum(_bytes(item) for item in value) if isinstance(value, list | tuple) else 0


def load_checkpoint(run: Path) -> dict[str, Any] | None:
    """Load the newest checkpoint that can be read; None if the run has none.

    Raises
    ------
    UserError
        If there are checkpoints but none can be read.
    """
    paths = _existing(run)
    for path in paths:
        try:
            return _read(path)
        except Exception as error:  # A damaged file makes zipfile and torch raise anything.
            reason = (str(error) or type(error).__name__).splitlines()[0]
            console.print(f"{path.name} cannot be read ({reason}); trying the one before.")
    if paths:
        raise UserError(
            f"No checkpoint in '{run / FOLDER}' can be read.", "Start again with another --out."
        )
    return None


def _read(path: Path) -> dict[str, Any]:
    with ZipFile(path) as archive:  # torch.load does not look at the checksums of tensors.
        damaged = archive.testzip()
    if damaged is not None:
        raise ValueError(f"{damaged} is damaged")
    state = torch.load(path, map_location="cpu", weights_only=True)
    missing = KEYS - state.keys()
    if missing:
        raise ValueError(f"it has no {min(missing)}")
    if state["step"] != _step(path):
        raise ValueError(f"it is of step {state['step']}")
    return state


def _existing(run: Path) -> list[Path]:
    """Return the checkpoints of a run, newest first."""
    found = [path for path in (run / FOLDER).glob("step_*.pt") if _NAME.match(path.name)]
    return sorted(found, key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step_"))
