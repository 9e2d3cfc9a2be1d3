"""Checkpoints of a run: written whole or not at all, the newest readable one taken up again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import torch

from dermino.errors import UserError
from dermino.files import atomic_path
from dermino.progress import console

FOLDER = "checkpoints"
KEYS = frozenset({"step", "method", "optimizer"})
_NAME = re.compile(r"step_(\d+)\.pt$")


def save_checkpoint(run: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write the state after ``step`` steps and remove all but the newest ``keep`` checkpoints."""
    path = run / FOLDER / f"step_{step:08d}.pt"
    with atomic_path(path) as temporary:
        torch.save(state, temporary)
    for old in _existing(run)[keep:]:
        old.unlink(missing_ok=True)
    return path


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
