"""A Task: which images, which classes, which of them to learn from and which to be judged on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dermino.data.manifest import Manifest, SourceInfo
from dermino.errors import UserError, unknown

LABELS = "labels"
UNLABELLED = "the images carry no labels, so nothing can be scored"
SPLITS = ("train", "val", "test")
_CLASSES_AT_MOST = 1000
_FEW = 10
_GROUPS = ("patient_id", "lesion_id")


@dataclass(frozen=True)
class Task:
    """A classification question with its answers, or images without labels, which have neither.

    Parameters
    ----------
    name:
        Unique among tasks, usable as a file name.
    manifest:
        The task's images, n rows of one dataset, all of them in a split.
    target:
        The manifest column that holds the answers.
    classes:
        Names of the C classes, sorted; each occurs in training and in test. None of them where
        the images carry no labels: then nothing can be learnt or scored.
    targets:
        Class of each row, shape (n,), int64; -1 where there are no classes.
    notes:
        What a reader of the results should know: classes and rows set aside, shared lesions.
    """

    name: str
    manifest: Manifest
    target: str
    classes: tuple[str, ...]
    targets: np.ndarray
    notes: tuple[str, ...] = field(default=())

    @property
    def dataset(self) -> str:
        """The dataset all rows come from."""
        return str(self.manifest.table["dataset"][0].as_py())

    @property
    def source(self) -> SourceInfo:
        """Title, licence and citation of the dataset."""
        return self.manifest.sources[self.dataset]

    @property
    def images(self) -> list[str]:
        """Paths of the rows, relative to the manifest's root."""
        return self.manifest.table["image"].to_pylist()

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of ``train``, ``val`` or ``test``."""
        return np.flatnonzero(np.asarray(pc.equal(self.manifest.table["split"], split)))

    def counts(self, split: str) -> dict[str, int]:
        """Number of rows of each class in a split."""
        targets = self.targets[self.rows(split)]
        return {name: int((targets == code).sum()) for code, name in enumerate(self.classes)}

    def clusters(self) -> tuple[str, list[Any] | None]:
        """What is drawn whole in a bootstrap of the test rows: a column's name and its values.

        Patients where they are known, else lesions, else images (then the values are None).
        """
        test = self.manifest.select(self.rows("test"))
        for column in _GROUPS:
            groups = _groups(test, column)
            known = [group for group in groups if group is not None]
            if len(set(known)) < len(known):
                return column, groups
        return "image", None

    def fingerprint(self, digests: np.ndarray) -> str:
        """Hash of all that defines the task: image contents (n, 16), answers, classes, splits."""
        digest = hashlib.blake2b(digest_size=16)
        split = self.manifest.column("split")
        digest.update(json.dumps([self.name, self.target, self.classes, split]).encode())
        digest.update(json.dumps(self.clusters()).encode())
        digest.update(self.targets.astype(np.int64).tobytes() + digests.tobytes())
        return digest.hexdigest()

    def compared(self, digests: np.ndarray) -> Task:
        """Return the task with a note on test images that are equal to a training image.

        Parameters
        ----------
        digests:
            Content digest of each row's file, shape (n, 16), uint8.
        """
        train = {row.tobytes() for row in digests[self.rows("train")]}
        copies = sum(row.tobytes() in train for row in digests[self.rows("test")])
        if not copies:
            return self
        note = f"{copies} test images are copies of training images: results flatter"
        return replace(self, notes=(*self.notes, note))

    def describe(self) -> dict[str, Any]:
        """Return what ``evaluation.json`` says of the task."""
        return {
            "name": self.name,
            "dataset": self.dataset,
            "title": self.source.title or self.dataset,
            "root": str(self.manifest.root.absolute()),
            "target": self.target,
            "classes": list(self.classes),
            **{f"n_{split}": len(self.rows(split)) for split in SPLITS},
            **{f"counts_{split}": self.counts(split) for split in SPLITS},
            "bootstrap_unit": self.clusters()[0],
            "licence": self.source.licence,
            "citation": self.source.citation,
            "synthetic": self.source.synthetic,
            "notes": list(self.notes),
        }


def derive_tasks(
    manifest: Manifest, target: str | None = None, names: Sequence[str] | None = None
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

    Returns
    -------
    tuple
        The tasks that can be done, and for each of the others the reason why it cannot.

    Raises
    ------
    UserError
        For an unknown column or task, if a wanted task cannot be done, or if none can.
    """
    column = target or LABELS
    if column not in manifest.table.column_names:
        raise unknown("column", column, manifest.table.column_names)
    tasks: dict[str, Task] = {}
    impossible: dict[str, UserError] = {}
    for dataset in manifest.sources:
        name = task_name(dataset, column)
        if name in tasks or name in impossible:
            raise UserError(
                f"Two datasets give the task name '{name}'.", "Rename one in its manifest."
            )
        rows = np.asarray(pc.equal(manifest.table["dataset"], dataset))
        own = manifest.select(rows)
        try:
            if target is None and not own.labelled.any():
                tasks[name] = _derive_unlabelled(name, own)
            else:
                tasks[name] = _derive(name, own, column)
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


def file_name(name: str) -> str:
    """Replace what is not safe in a file name on every system."""
    return re.sub(r"[^\w.@+-]+", "-", name).strip("-.") or "unnamed"


def _splits(name: str, manifest: Manifest) -> np.ndarray:
    """Return each row's split; a UserError if no row has one."""
    split = np.array(manifest.column("split"), object)
    if not np.isin(split, SPLITS).any():
        raise UserError(
            f"Task '{name}': no image is in a split.", "Make one with: dermino data split MANIFEST"
        )
    return split


def _derive_unlabelled(name: str, manifest: Manifest) -> Task:
    split = _splits(name, manifest)
    for part in ("train", "test"):
        if part not in split:
            raise UserError(
                f"Task '{name}': no image is in the {part} split.",
                "Make a split with: dermino data split MANIFEST",
            )
    chosen = manifest.select(np.isin(split, SPLITS))
    return Task(name, chosen, LABELS, (), np.full(len(chosen), -1), tuple(_shared(chosen)))


def _derive(name: str, manifest: Manifest, target: str) -> Task:
    split = _splits(name, manifest)
    answers, several = _answers(manifest, target, name)
    notes = []
    if several:
        notes.append(f"{several} images with several labels are left out")
    usable = np.isin(split, SPLITS) & np.array([answer is not None for answer in answers], bool)
    counts = {part: _count(answers, usable & (split == part)) for part in ("train", "test")}
    for part, numbers in counts.items():
        if not numbers:
            raise UserError(
                f"Task '{name}': no {part} image has a '{target}'.",
                "Make a split with: dermino data split MANIFEST, or choose another --target.",
            )
    classes = sorted(counts["train"].keys() & counts["test"].keys())
    for other in sorted(counts["train"].keys() ^ counts["test"].keys()):
        where = "test" if other in counts["train"] else "training"
        n = counts["train"].get(other, 0) + counts["test"].get(other, 0)
        notes.append(f"class '{other}' ({n} images) is left out: it has no {where} image")
    if len(classes) < 2:
        found = ", ".join(classes) or "none"
        raise UserError(
            f"Task '{name}': fewer than two classes are in both training and test ({found}).",
            "Check the split, or choose another --target.",
        )
    few = [f"{c} ({counts['test'][c]})" for c in classes if counts["test"][c] < _FEW]
    if few:
        notes.append(f"fewer than {_FEW} test images, read with care: {', '.join(few)}")
    code = {c: number for number, c in enumerate(classes)}
    rows = np.array([row for row in np.flatnonzero(usable) if answers[row] in code])
    chosen = manifest.select(rows)
    notes += _shared(chosen)
    targets = np.array([code[str(answers[row])] for row in rows], np.int64)
    return Task(name, chosen, target, tuple(classes), targets, tuple(notes))


def _answers(manifest: Manifest, target: str, name: str) -> tuple[list[str | None], int]:
    """Return each row's class or None, and how many rows have more than one."""
    column = manifest.table[target]
    values = column.to_pylist()
    if pa.types.is_list(column.type):
        several = sum(len(items or ()) > 1 for items in values)
        return [str(items[0]) if items and len(items) == 1 else None for items in values], several
    answers = [None if value is None or value != value else _text(value) for value in values]
    different = len(set(answers) - {None})
    if different > _CLASSES_AT_MOST or (
        pa.types.is_floating(column.type) and different > len(values) / 10 and different > _FEW
    ):
        raise UserError(
            f"Task '{name}': column '{target}' has {different} different values; "
            "it does not look like classes.",
            "Choose a column of categories with --target.",
        )
    return answers, 0


def _text(value: Any) -> str:
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)


def _count(answers: list[str | None], mask: np.ndarray) -> Mapping[str, int]:
    counts: dict[str, int] = {}
    for row in np.flatnonzero(mask):
        answer = answers[row]
        if answer is not None:
            counts[answer] = counts.get(answer, 0) + 1
    return counts


def _shared(manifest: Manifest) -> list[str]:
    """Tell of patients and lesions that lie in training and in test."""
    notes = []
    split = manifest.column("split")
    for column in _GROUPS:
        groups = _groups(manifest, column)
        train, test = (
            {group for group, own in zip(groups, split, strict=True) if own == part}
            for part in ("train", "test")
        )
        shared = (train & test) - {None}
        if shared:
            kind = column.removesuffix("_id")
            notes.append(f"{len(shared)} {kind}s are in training and in test: results flatter")
    return notes


def _groups(manifest: Manifest, column: str) -> list[str | None]:
    """Name each row's patient or lesion; some publishers number lesions anew for each patient."""
    values = manifest.column(column)
    if column == "patient_id":
        return values
    patients = manifest.column("patient_id")
    return [
        None if lesion is None else f"{patient or ''}/{lesion}"
        for patient, lesion in zip(patients, values, strict=True)
    ]
