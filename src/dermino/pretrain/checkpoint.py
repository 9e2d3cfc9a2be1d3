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


def save_checkpoint(run: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write the state after ``step`` steps and remove all but the newest ``keep`` checkpoints.

    What a process left that was killed while it wrote goes too.

    Raises
    ------
    DiskFull
        If the checkpoint does not fit; the earlier ones stay.
    """
    path = run / FOLDER / f"step_{step:08d}.pt"
    for torn in (run / FOLDER).glob(".step_*.tmp"):
        torn.unlink(missing_ok=True)
    try:
        with atomic_path(path) as temporary:
            torch.save(state, temporary)
    except DiskFull as error:
        raise _explain(path, state) from error
    for old in _existing(run)[keep:]:
        old.unlink(missing_ok=True)
    return path


def _explain(path: Path, state: dict[str, Any]) -> DiskFull:
    needed, free = _bytes(state) / 2**20, shutil.disk_usage(path.parent).free / 2**20
    saved = _existing(path.parents[1])
    newest = f"The newest checkpoint is {saved[0].name}" if saved else "There is none yet"
    return DiskFull(
        f"The disk is full: '{path}' needs {needed:,.1f} MiB, {free:,.1f} are free. {newest}.",
        "Free some space and go on with --resume; keep_checkpoints=1 needs the least.",
    )


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
    return state


def _existing(run: Path) -> list[Path]:
    """Return the checkpoints of a run, newest first."""
    found = [path for path in (run / FOLDER).glob("step_*.pt") if _NAME.match(path.name)]
    return sorted(found, reverse=True)
