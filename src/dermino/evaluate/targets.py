"""The answers of a task, read from a column of a manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from dermino.data.manifest import Manifest
from dermino.errors import UserError
from dermino.evaluate.task import TaskKind

_CLASSES_AT_MOST = 1000
_FEW = 10
_CONTINUOUS_SHARE = 0.1
_TEXTS = {"segmentation": "paths of masks", "caption": "captions"}

_Labels = tuple[str, ...]


def read_answers(
    name: str,
    manifest: Manifest,
    target: str,
    kind: TaskKind,
    concepts: Mapping[str, str] | None = None,
) -> tuple[list[Any], list[str]]:
    """Return each row's answer and notes on rows set aside.

    Parameters
    ----------
    name:
        Of the task, for messages.
    manifest:
        Rows of one dataset.
    target:
        The column.
    kind:
        What is asked.
    concepts:
        From raw labels to classes, without regard to case; other labels are dropped. Default: raw
        labels are the classes.

    Returns
    -------
    tuple
        One value a row: a tuple of class names (of one, except for ``multilabel``), a float, a
        mask's path or a caption; None where it is not known.

    Raises
    ------
    UserError
        If the column does not hold such answers.
    """
    column = manifest.table[target]
    if kind == "unlabelled":
        return [()] * len(manifest), []
    if kind == "regression":
        return _numbers(name, column, target), []
    if kind in {"segmentation", "caption"}:
        if pa.types.is_primitive(column.type):
            raise UserError(
                f"Task '{name}': column '{target}' holds no {_TEXTS[kind]}.",
                f"Choose another --target than '{target}', or another --kind.",
            )
        return [_text(value) or None for value in _scalars(name, column, target)], []
    listed = pa.types.is_list(column.type)
    sets = _label_sets(column) if listed else _categories(name, column, target)
    if concepts is not None:
        sets = _translated(sets, concepts, keep_empty=kind == "multilabel")
    if kind == "multilabel":
        return sets, []
    several = sum(labels is not None and len(labels) > 1 for labels in sets)
    notes = [f"{several} images with several labels are left out"] if several else []
    return [labels if labels and len(labels) == 1 else None for labels in sets], notes


def shared_classes(
    answers: Sequence[Any], train: np.ndarray, test: np.ndarray, wanted: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """Return the classes that occur in training and in test, and notes on the others.

    Parameters
    ----------
    answers:
        As :func:`read_answers` gives them.
    train, test:
        Which rows are learnt from and judged by, shape (n,), bool.
    wanted:
        The classes to choose from, in their order. Default: all, sorted.
    """
    learnt, judged = (
        Counter(label for row in np.flatnonzero(part).tolist() for label in answers[row])
        for part in (train, test)
    )
    both = learnt.keys() & judged.keys()
    classes = sorted(both) if wanted is None else [label for label in wanted if label in both]
    notes = []
    for other in sorted((learnt.keys() | judged.keys() | set(wanted or ())) - set(classes)):
        if wanted is None or other in wanted:
            where = "test" if other in learnt else "training"
            n = learnt[other] + judged[other]
            notes.append(f"class '{other}' ({n} images) is left out: it has no {where} image")
    few = [f"{label} ({judged[label]})" for label in classes if judged[label] < _FEW]
    if few:
        notes.append(f"fewer than {_FEW} test images, read with care: {', '.join(few)}")
    return classes, notes


def ascending(name: str, labels: Iterable[str]) -> list[str]:
    """Order classes that are numbers, lowest first.

    Raises
    ------
    UserError
        If they are no numbers: then only their reader knows the order.
    """
    try:
        return sorted(labels, key=float)
    except ValueError as error:
        raise UserError(
            f"Task '{name}': the order of the classes is not known ({error}).",
            "List them under 'classes' in a task file, lowest first.",
        ) from error


def _label_sets(column: pa.ChunkedArray) -> list[_Labels | None]:
    return [
        tuple(dict.fromkeys(map(str, items))) if items else None for items in column.to_pylist()
    ]


def _translated(
    sets: list[_Labels | None], concepts: Mapping[str, str], keep_empty: bool
) -> list[_Labels | None]:
    """Replace raw labels by classes; an image all of whose labels are dropped has no answer,
    unless it may have any number of labels: then it has none of the classes.
    """
    classes = {label.casefold(): name for label, name in concepts.items()}
    translated: list[_Labels | None] = []
    for labels in sets:
        known = (classes.get(label.casefold()) for label in labels or ())
        names = tuple(dict.fromkeys(name for name in known if name is not None))
        translated.append(names if names or (keep_empty and labels is not None) else None)
    return translated


def _scalars(name: str, column: pa.ChunkedArray, target: str) -> list[Any]:
    if pa.types.is_list(column.type):
        raise UserError(
            f"Task '{name}': column '{target}' holds lists.", "Choose a column of single values."
        )
    return column.to_pylist()


def _numbers(name: str, column: pa.ChunkedArray, target: str) -> list[float | None]:
    values = _scalars(name, column, target)
    try:
        numbers = [None if value is None else float(value) for value in values]
    except (TypeError, ValueError) as error:
        raise UserError(
            f"Task '{name}': column '{target}' is no column of numbers: {error}.",
            "Choose another --target, or another kind of task.",
        ) from error
    return [None if number is None or not np.isfinite(number) else number for number in numbers]


def _categories(name: str, column: pa.ChunkedArray, target: str) -> list[_Labels | None]:
    values = column.to_pylist()
    answers: list[_Labels | None] = [
        None if value is None or value != value else (_text(value),) for value in values
    ]
    different = len(set(answers) - {None})
    if different > _CLASSES_AT_MOST or (
        pa.types.is_floating(column.type) and different > max(_FEW, len(values) * _CONTINUOUS_SHARE)
    ):
        raise UserError(
            f"Task '{name}': column '{target}' has {different} different values; "
            "it does not look like classes.",
            "Choose a column of categories with --target, or ask for its number: "
            "--kind regression.",
        )
    return answers


def _text(value: Any) -> str:
    if value is None:
        return ""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value)
