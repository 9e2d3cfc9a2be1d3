"""Which of a task's images are learnt from and which are judged: rules, and lists to publish."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from dermino.data.manifest import Manifest
from dermino.data.schema import SPLITS
from dermino.data.split import split
from dermino.errors import UserError
from dermino.evaluate.definition import SplitRule
from dermino.evaluate.task import Task
from dermino.files import atomic_path

_STRATUM = "_stratum"


def split_task(
    name: str, manifest: Manifest, rule: SplitRule, answers: Sequence[Any], folder: Path
) -> tuple[list[str], list[str]]:
    """Return each row's split, empty for rows set aside, and notes.

    Parameters
    ----------
    name:
        Of the task, for messages.
    manifest:
        The task's rows.
    rule:
        How to divide them; ``like`` is the caller's to follow.
    answers:
        Each row's answer, None where there is none: such rows are set aside.
    folder:
        What the rule's file is relative to.

    Raises
    ------
    UserError
        If the manifest has no official split, or the list cannot be read.
    """
    given = manifest.column("split")
    if rule.rule == "list":
        return _listed(manifest, folder / str(rule.file)), []
    if rule.rule == "official" or (rule.rule == "given" and {"train", "test"} <= set(given)):
        return _official(name, given, rule), []
    notes = []
    if rule.rule == "given":
        notes.append("the manifest has no official split: divided anew, results differ from others")
    chosen = [
        row
        for row, (part, answer) in enumerate(zip(given, answers, strict=True))
        if answer is not None and (not rule.of or part in rule.of)
    ]
    if not chosen:
        parts = f" in the publisher's {' or '.join(rule.of)} part" if rule.of else ""
        raise UserError(f"Task '{name}': no image has an answer{parts}.")
    # Sorted by name, so that everybody who has the images divides them alike.
    names = portable_names(manifest.column("image"))
    ordered = sorted(chosen, key=lambda row: names[row])
    strata = [answers[row] if isinstance(answers[row], tuple) else () for row in ordered]
    divided = split(
        manifest.select(ordered).with_columns(**{_STRATUM: [repr(own) for own in strata]}),
        {str(part): share for part, share in rule.fractions.items()},
        stratify=_STRATUM,
        group=rule.group,
        seed=rule.seed,
    )
    parts_of = np.full(len(manifest), "", object)
    parts_of[ordered] = divided.column("split")
    return parts_of.tolist(), notes


def split_like(manifest: Manifest, other: Manifest) -> list[str]:
    """Return the split that each image has in another manifest, empty where it is not there."""
    known = dict(zip(other.column("image"), other.column("split"), strict=True))
    return [known.get(image, "") for image in manifest.column("image")]


def portable_names(images: Sequence[str]) -> list[str]:
    """Name images as everybody who has them would, wherever their folders lie.

    That is the file name without suffix where no two are the same, else the path below the folder
    that all have in common.
    """
    paths = [PurePosixPath(image) for image in images]
    stems = [path.stem for path in paths]
    if len(set(stems)) == len(stems):
        return stems
    common = os.path.commonpath([path.parent for path in paths])
    return [path.relative_to(common).as_posix() for path in paths]


def write_split_list(task: Task, path: Path) -> None:
    """Write the task's images and their splits as CSV, sorted, for others to divide alike."""
    columns = {"image": portable_names(task.images), "split": task.manifest.column("split")}
    frame = pd.DataFrame(columns).query("split != ''").sort_values("image")
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False)


def _listed(manifest: Manifest, path: Path) -> list[str]:
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        listed = dict(zip(frame["image"], frame["split"], strict=True))
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"'{path}' is no list of splits: {error}.", "It is a CSV with columns image and split."
        ) from error
    for row, part in enumerate(frame["split"], start=1):
        if part not in SPLITS:
            raise UserError(f"'{path}', row {row}: '{part}' is no split.", "train, val or test.")
    names = portable_names(manifest.column("image"))
    if not listed.keys() & set(names):
        raise UserError(
            f"None of the images in '{path}' is in the manifest.",
            f"They are called like '{names[0]}' there.",
        )
    return [listed.get(name, "") for name in names]


def _official(name: str, given: list[str], rule: SplitRule) -> list[str]:
    serves: dict[str, str] = {
        part: role
        for role, parts in (("train", rule.train), ("val", rule.val), ("test", rule.test))
        for part in parts
    }
    parts = [serves.get(part, "") for part in given]
    for role in ("train", "test"):
        if role not in parts:
            published = ", ".join(sorted({part for part in given if part})) or "no part"
            raise UserError(
                f"Task '{name}': the official split has no {role} images here ({published}).",
                "Import the missing part, or divide with another rule in a task file.",
            )
    return parts
