"""Suites: task files shipped with dermino or written by a user, and the tasks made of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from dermino.config import load_config
from dermino.data.manifest import Manifest
from dermino.data.source import SOURCES
from dermino.data.source_info import SourceInfo
from dermino.errors import UserError, unknown
from dermino.evaluate.definition import Suite, TaskDefinition
from dermino.evaluate.derive import make_task
from dermino.evaluate.targets import read_answers
from dermino.evaluate.task import LABELS, SPLITS, Task
from dermino.evaluate.task_split import split_like, split_task


@dataclass(frozen=True)
class TaskFile:
    """A suite and the folder that names of files in it are relative to."""

    suite: Suite
    folder: Path

    def find(self, name: str) -> TaskDefinition:
        """Return the task called ``name``."""
        return next(task for task in self.suite.tasks if task.name == name)


@dataclass(frozen=True)
class Prepared:
    """The tasks of some files that the manifests allow, and the others with what is missing.

    Parameters
    ----------
    tasks:
        Those that can be done.
    protocols:
        How each is asked by default, by name of the task.
    missing:
        Why each of the others cannot be done, and what to do about it.
    """

    tasks: list[Task]
    protocols: dict[str, tuple[str, ...]]
    missing: dict[str, str]


def suite_names() -> list[str]:
    """Return the names of the suites shipped with the package."""
    folder = files("dermino.evaluate.tasks")
    names = (item.name for item in folder.iterdir())
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


def read_suite(suite: str | Path) -> TaskFile:
    """Read a suite by name, or a task file by path.

    Raises
    ------
    UserError
        If there is none, or a task in it cannot be read.
    """
    path = Path(suite)
    if path.suffix not in {".yaml", ".yml"}:
        if str(suite) not in suite_names():
            raise unknown("suite", str(suite), suite_names())
        path = Path(str(files("dermino.evaluate.tasks").joinpath(f"{suite}.yaml")))
    return TaskFile(load_config(Suite, path), path.parent)


def prepare_tasks(
    task_files: Iterable[TaskFile], manifest: Manifest, names: Sequence[str] | None = None
) -> Prepared:
    """Make the tasks whose images the manifest has.

    Parameters
    ----------
    task_files:
        Suites.
    manifest:
        Of one or several datasets.
    names:
        The tasks wanted. Default: all.

    Raises
    ------
    UserError
        For an unknown or repeated task, if a wanted task cannot be done, or if none can.
    """
    defined = [(file, task) for file in task_files for task in file.suite.tasks]
    known = [task.name for _, task in defined]
    if repeated := sorted({name for name in known if known.count(name) > 1}):
        raise UserError(f"Two task files have a task '{repeated[0]}'.", "Rename one of them.")
    for name in names or ():
        if name not in known:
            raise unknown("task", name, known)
    prepared = Prepared([], {}, {})
    for file, definition in defined:
        if names and definition.name not in names:
            continue
        if definition.dataset not in manifest.sources:
            prepared.missing[definition.name] = where_to_get(definition)
            continue
        try:
            task = define_task(file, definition, manifest)
        except UserError as error:
            prepared.missing[definition.name] = str(error)
        else:
            prepared.tasks.append(task)
            prepared.protocols[task.name] = definition.protocols
    for name in names or ():
        if name in prepared.missing:
            raise UserError(f"Task '{name}' cannot be done.", prepared.missing[name])
    if not prepared.tasks:
        reasons = "\n".join(f"{name}: {reason}" for name, reason in prepared.missing.items())
        raise UserError("None of the tasks can be done with these manifests.", reasons)
    return prepared


def define_task(file: TaskFile, definition: TaskDefinition, manifest: Manifest) -> Task:
    """Make a task of its definition.

    Raises
    ------
    UserError
        If the manifest lacks a column, an answer or a part of the split.
    """
    rows, answers, notes = _divided(file, definition, manifest)
    task = make_task(
        definition.name,
        rows,
        definition.target,
        definition.kind,
        _frequent(definition, answers),
        _concepts(definition),
        definition.subgroups,
    )
    n = sum(len(task.rows(part)) for part in SPLITS)
    if definition.images is not None and definition.images != n:
        notes.append(f"{n:,} images here, {definition.images:,} in the reference")
    described = definition.model_dump(mode="json", exclude_defaults=True)
    return replace(task, notes=(*task.notes, *notes), definition=described)


def where_to_get(definition: TaskDefinition) -> str:
    """Say what a task lacks whose dataset is in no manifest, and how to come by it."""
    lacking = f"no manifest has the dataset '{definition.dataset}'"
    if definition.private:
        return f"{lacking}, which is not public ({definition.private})."
    if definition.dataset not in SOURCES:
        return f"{lacking}."
    info = SOURCES.get(definition.dataset).info
    return (
        f"{lacking}: {info.title}, {info.url} ({info.licence or 'licence not stated'}). "
        f"Import it with: dermino data import {definition.dataset} PATH"
    )


def list_tasks(task_files: Iterable[TaskFile]) -> pd.DataFrame:
    """Return one row a task: name, title, kind, dataset, images, protocols, where to get it."""
    rows = []
    for file in task_files:
        for task in file.suite.tasks:
            source = SOURCES.get(task.dataset).info if task.dataset in SOURCES else None
            rows.append(
                {
                    "task": task.name,
                    "title": task.title,
                    "kind": task.kind,
                    "dataset": task.dataset,
                    "images": task.images or "",
                    "classes": _class_count(task, source) or "",
                    "split": task.split.rule if not task.split.like else f"as {task.split.like}",
                    "protocols": ", ".join(task.protocols),
                    "from": task.private or (source.url if source else "your own"),
                }
            )
    return pd.DataFrame(rows)


def _class_count(task: TaskDefinition, source: SourceInfo | None) -> int:
    """How many classes a task has, 0 where only the images tell or there are none."""
    if stated := set((task.concepts or {}).values()) or task.classes:
        return len(stated)
    is_whole = task.target == LABELS and task.min_images == 1 and task.kind == "classification"
    return len(source.vocabulary) if source and is_whole else 0


def _divided(
    file: TaskFile, definition: TaskDefinition, manifest: Manifest
) -> tuple[Manifest, list, list[str]]:
    """Return the task's rows with their split, their answers and notes."""
    rows = manifest.select(np.asarray(pc.equal(manifest.table["dataset"], definition.dataset)))
    if definition.target not in rows.table.column_names:
        raise UserError(
            f"Task '{definition.name}': the manifest has no column '{definition.target}'.",
            "Import the dataset again, with what this task needs beside it.",
        )
    for column, allowed in definition.where.items():
        values = rows.column(column)
        rows = rows.select(np.array([str(value) in allowed for value in values], bool))
    if not len(rows):
        raise UserError(
            f"Task '{definition.name}': no image fits {definition.where}.", "Check the manifest."
        )
    answers, _ = read_answers(
        definition.name, rows, definition.target, definition.kind, _concepts(definition)
    )
    if definition.split.like is not None:
        other, _, notes = _divided(file, file.find(definition.split.like), manifest)
        return rows.with_columns(split=split_like(rows, other)), answers, notes
    parts, notes = split_task(definition.name, rows, definition.split, answers, file.folder)
    return rows.with_columns(split=parts), answers, notes


def _concepts(definition: TaskDefinition) -> dict[str, str] | None:
    if definition.concepts is None and definition.classes is not None:
        return {name: name for name in definition.classes}
    return definition.concepts


def _frequent(definition: TaskDefinition, answers: list) -> Sequence[str] | None:
    """Return the classes to choose from: those stated, without those that are too rare."""
    if definition.min_images == 1:
        return definition.classes
    counts = pd.Series([label for own in answers for label in own or ()]).value_counts()
    frequent = set(counts[counts >= definition.min_images].index)
    return [name for name in definition.classes or sorted(frequent) if name in frequent]
