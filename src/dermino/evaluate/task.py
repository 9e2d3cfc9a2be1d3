"""A Task: which images, what is asked of them, which to learn from and which to be judged on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pyarrow.compute as pc

from dermino.data.manifest import Manifest
from dermino.data.reference import Reference
from dermino.data.source_info import SourceInfo
from dermino.data.split import split

TaskKind = Literal[
    "classification",
    "ordinal",
    "multilabel",
    "regression",
    "segmentation",
    "caption",
    "unlabelled",
]
LABELS = "labels"
UNLABELLED = "the images carry no labels, so nothing can be scored"
SPLITS = ("train", "val", "test")
GROUPS = ("patient_id", "lesion_id")
_STRATUM = "_stratum"


@dataclass(frozen=True)
class Task:
    """A question about images, with its answers.

    Parameters
    ----------
    name:
        Unique among tasks, usable as a file name.
    manifest:
        The task's images, n rows of one dataset. Rows whose split is empty are set aside.
    target:
        The manifest column that holds the answers.
    classes:
        Names of the C classes: sorted, or lowest first for ``ordinal``. None for regression,
        segmentation, captions and ``unlabelled``.
    targets:
        The answers, one a row, by ``kind``:

        - ``classification``, ``ordinal``: (n,) int64, below C;
        - ``multilabel``: (n, C) int64, 1 present, 0 absent, -1 not known;
        - ``regression``: (n,) float64, finite;
        - ``segmentation``: (n,) str objects, the mask's path below the manifest's root;
        - ``caption``: (n,) str objects;
        - ``unlabelled``: (n,) int64, all -1.
    notes:
        What a reader of the results should know: classes and rows set aside, shared lesions.
    kind:
        What is asked; decides which protocols and metrics there are.
    subgroups:
        Columns by which results are also looked at, such as ``skin_type``, ``sex``, ``age``.
    definition:
        The row of a task file it was made of, as plain values; empty for one made of a manifest.
    """

    name: str
    manifest: Manifest
    target: str
    classes: tuple[str, ...]
    targets: np.ndarray
    notes: tuple[str, ...] = field(default=())
    kind: TaskKind = "classification"
    subgroups: tuple[str, ...] = field(default=())
    definition: Mapping[str, Any] = field(default_factory=dict)

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

    def files(self) -> list[Reference]:
        """All files the task is made of: the n images, then the n masks of a segmentation."""
        masks = self.targets.tolist() if self.kind == "segmentation" else []
        return [*self.manifest.paths(), *(self.manifest.locate(mask) for mask in masks)]

    def rows(self, split: str) -> np.ndarray:
        """Row numbers of ``train``, ``val`` or ``test``."""
        return np.flatnonzero(np.asarray(pc.equal(self.manifest.table["split"], split)))

    def counts(self, split: str) -> dict[str, int]:
        """Number of rows of each class in a split; nothing for a task without classes."""
        targets = self.targets[self.rows(split)]
        if self.kind == "multilabel":
            present = (targets == 1).sum(axis=0)
            return {name: int(n) for name, n in zip(self.classes, present, strict=True)}
        return {name: int((targets == code).sum()) for code, name in enumerate(self.classes)}

    def with_training_rows(self, rows: np.ndarray) -> Task:
        """Return the task with fewer training rows; the others are set aside.

        Parameters
        ----------
        rows:
            Row numbers, a part of ``rows("train")``.
        """
        chosen = np.zeros(len(self.targets), bool)
        chosen[rows] = True
        parts = self.manifest.column("split")
        kept = [
            "" if part == "train" and not chosen[row] else part for row, part in enumerate(parts)
        ]
        return replace(self, manifest=self.manifest.with_columns(split=kept))

    def with_validation(self, share: float = 0.2, seed: int = 0) -> Task:
        """Return the task with validation rows, taken from the training rows where it has none.

        Patients, or else lesions, are not divided, and classes keep their shares. The number and
        order of rows stay, and so do the test rows.

        Parameters
        ----------
        share:
            Share of the training rows to validate on.
        seed:
            Of the choice.
        """
        train = self.rows("train")
        if len(self.rows("val")) or len(train) < 2:
            return self
        learnt = self.manifest.select(train).with_columns(**{_STRATUM: self._strata()[train]})
        divided = split(learnt, {"train": 1 - share, "val": share}, stratify=_STRATUM, seed=seed)
        parts = np.array(self.manifest.column("split"), object)
        parts[train] = divided.column("split")
        return replace(self, manifest=self.manifest.with_columns(split=parts.tolist()))

    def clusters(self) -> tuple[str, list[Any] | None]:
        """What is drawn whole in a bootstrap of the test rows: a column's name and its values.

        Patients where they are known, else lesions, else images (then the values are None).
        """
        test = self.manifest.select(self.rows("test"))
        for column in GROUPS:
            groups = group_names(test, column)
            known = [group for group in groups if group is not None]
            if len(set(known)) < len(known):
                return column, groups
        return "image", None

    def fingerprint(self, digests: np.ndarray) -> str:
        """Hash of all that defines the task.

        Parameters
        ----------
        digests:
            Content digests of :meth:`files`, shape (m, 16), uint8.
        """
        digest = hashlib.blake2b(digest_size=16)
        parts = self.manifest.column("split")
        defined = [self.name, self.kind, self.target, self.classes, parts, self.targets.tolist()]
        digest.update(json.dumps([*defined, self.clusters()]).encode())
        digest.update(digests.tobytes())
        return digest.hexdigest()

    def compared(self, digests: np.ndarray) -> Task:
        """Return the task with a note on test images that are equal to a training image.

        Parameters
        ----------
        digests:
            Content digest of each row's image, shape (n, 16), uint8.
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
            "kind": self.kind,
            "dataset": self.dataset,
            "title": self.definition.get("title") or self.source.title or self.dataset,
            "root": str(self.manifest.root.absolute()),
            "target": self.target,
            "classes": list(self.classes),
            "subgroups": list(self.subgroups),
            "definition": dict(self.definition),
            **{f"n_{split}": len(self.rows(split)) for split in SPLITS},
            **{f"counts_{split}": self.counts(split) for split in SPLITS},
            "bootstrap_unit": self.clusters()[0],
            "licence": self.source.licence,
            "citation": self.source.citation,
            "synthetic": self.source.synthetic,
            "notes": list(self.notes),
        }

    def _strata(self) -> np.ndarray:
        """Number what shall keep its share in a split: the class, or the set of labels."""
        if self.kind == "multilabel":
            return np.unique(self.targets, axis=0, return_inverse=True)[1].reshape(-1)
        return self.targets if self.classes else np.zeros(len(self.targets), np.int64)


def file_name(name: str) -> str:
    """Replace what is not safe in a file name on every system."""
    return re.sub(r"[^\w.@+-]+", "-", name).strip("-.") or "unnamed"


def group_names(manifest: Manifest, column: str) -> list[str | None]:
    """Name each row's patient or lesion; some publishers number lesions anew for each patient."""
    values = manifest.column(column)
    if column == "patient_id":
        return values
    patients = manifest.column("patient_id")
    return [
        None if lesion is None else f"{patient or ''}/{lesion}"
        for patient, lesion in zip(patients, values, strict=True)
    ]
