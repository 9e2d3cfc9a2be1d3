"""From manifests to tasks: every dataset that has answers and a split is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast, get_args

import numpy as np
import pyarrow.compute as pc

from dermino.data.manifest import Manifest
from dermino.errors import UserError, unknown
from dermino.evaluate.targets import ascending, read_answers, shared_classes
from dermino.evaluate.task import GROUPS, LABELS, SPLITS, Task, TaskKind, file_name, group_names

_KIND_OF_COLUMN = {"mask": "segmentation", "caption": "caption"}
_WITH_CLASSES = {"classification", "ordinal", "multilabel"}


def derive_tasks(
    manifest: Manifest,
    target: str | None = None,
    names: Sequence[str] | None = None,
    kind: str | None = None,
) -> tuple[list[Task], dict[str, str]]:
    """Make one task of each dataset in a manifest.

    Parameters
    ----------
    manifest:
        With a ``split`` column that says train and test.
    target:
        The column to predict. Default: the labels, of rows that have exactly one; a dataset that
        has no label at all becomes a task without classes.
    names:
        The tasks wanted. Default: all.
    kind:
        What is asked. Default: segmentation of ``mask``, captions of ``caption``, else
        classification.

    Returns
    -------
    tuple
        The tasks that can be done, and for each of the others the reason why it cannot.

    Raises
    ------
    UserError
        For an unknown column, kind or task, if a wanted task cannot be done, or if none can.
    """
    column = target or LABELS
    if column not in manifest.table.column_names:
        raise unknown("column", column, manifest.table.column_names)
    asked = _kind_called(kind or _KIND_OF_COLUMN.get(column, "classification"))
    tasks: dict[str, Task] = {}
    impossible: dict[str, UserError] = {}
    for dataset in manifest.sources:
        name = task_name(dataset, column)
        if name in tasks or name in impossible:
            raise UserError(
                f"Two datasets give the task name '{name}'.", "Rename one in its manifest."
            )
        own = manifest.select(np.asarray(pc.equal(manifest.table["dataset"], dataset)))
        try:
            without = target is None and kind is None and not own.labelled.any()
            tasks[name] = make_task(name, own, column, "unlabelled" if without else asked)
        except UserError as error:
            impossible[name] = error
    for name in names or ():
        if name in impossible:
            raise impossible[name]
        if name not in tasks:
            raise unknown("task", name, [*tasks, *impossible])
    if not tasks:
        raise next(iter(impossible.values()), UserError("The manifest has no image."))
    chosen = [task for name, task in tasks.items() if not names or name in names]
    return chosen, {} if names else {name: str(error) for name, error in impossible.items()}


def task_name(dataset: str, target: str = LABELS) -> str:
    """Return the task's name: the dataset, and the target where it is not the labels."""
    return file_name(dataset if target == LABELS else f"{dataset}.{target}")


def _kind_called(name: str) -> TaskKind:
    for kind in get_args(TaskKind):
        if kind == name:
            return cast(TaskKind, kind)
    raise unknown("kind of task", name, get_args(TaskKind))


def make_task(
    name: str,
    manifest: Manifest,
    target: str = LABELS,
    kind: TaskKind = "classification",
    classes: Sequence[str] | None = None,
    concepts: Mapping[str, str] | None = None,
    subgroups: Sequence[str] = (),
) -> Task:
    """Make a task of the rows of one dataset.

    Parameters
    ----------
    name:
        Of the task.
    manifest:
        Rows of one dataset; those without a split or an answer are left out.
    target:
        The column that holds the answers.
    kind:
        What is asked.
    classes:
        The classes, in their order where that matters. Default: all that occur. Rows of others
        are left out.
    concepts:
        From raw labels to classes; see :func:`dermino.evaluate.targets.read_answers`.
    subgroups:
        Columns by which results are also looked at; those that the manifest lacks are dropped.

    Raises
    ------
    UserError
        If there is nothing to learn from, nothing to judge by, or only one class.
    """
    split = np.array(manifest.column("split"), object)
    if not np.isin(split, SPLITS).any():
        raise UserError(
            f"Task '{name}': no image is in a split.", "Make one with: dermino data split MANIFEST"
        )
    answers, notes = read_answers(name, manifest, target, kind, concepts)
    usable = np.isin(split, SPLITS) & np.array([answer is not None for answer in answers], bool)
    train, test = usable & (split == "train"), usable & (split == "test")
    for part, rows in (("train", train), ("test", test)):
        if not rows.any():
            raise UserError(
                f"Task '{name}': no image is in the {part} split."
                if kind == "unlabelled"
                else f"Task '{name}': no {part} image has a '{target}'.",
                "Make a split with: dermino data split MANIFEST, or choose another --target.",
            )
    if kind in _WITH_CLASSES:
        if kind == "ordinal" and classes is None:
            known = {label for row in np.flatnonzero(usable) for label in answers[row]}
            classes = ascending(name, known)
        found, left_out = shared_classes(answers, train, test, classes)
        notes += left_out
        if len(found) < (1 if kind == "multilabel" else 2):
            raise UserError(
                f"Task '{name}': fewer than two classes are in both training and test "
                f"({', '.join(found) or 'none'}).",
                "Check the split, or choose another --target.",
            )
    else:
        found = []
    rows = np.flatnonzero(usable)
    if kind in {"classification", "ordinal"}:
        rows = np.array([row for row in rows if answers[row][0] in found])
    chosen = manifest.select(rows)
    return Task(
        name,
        chosen,
        target,
        tuple(found),
        _targets([answers[row] for row in rows], kind, found),
        (*notes, *_shared(chosen)),
        kind,
        tuple(column for column in subgroups if column in manifest.table.column_names),
    )


def _targets(answers: Sequence[Any], kind: TaskKind, classes: Sequence[str]) -> np.ndarray:
    """Return the answers in the shape that :class:`Task` states for the kind."""
    if kind in {"classification", "ordinal"}:
        code = {label: number for number, label in enumerate(classes)}
        return np.array([code[label] for (label,) in answers], np.int64)
    if kind == "multilabel":
        return np.array([[label in labels for label in classes] for labels in answers], np.int64)
    if kind == "unlabelled":
        return np.full(len(answers), -1)
    return np.array(answers, np.float64 if kind == "regression" else object)


def _shared(manifest: Manifest) -> list[str]:
    """Tell of patients and lesions that lie in training and in test."""
    notes = []
    split = manifest.column("split")
    for column in GROUPS:
        groups = group_names(manifest, column)
        train, test = (
            {group for group, own in zip(groups, split, strict=True) if own == part}
            for part in ("train", "test")
        )
        shared = (train & test) - {None}
        if shared:
            kind = column.removesuffix("_id")
            notes.append(f"{len(shared)} {kind}s are in training and in test: results flatter")
    return notes
