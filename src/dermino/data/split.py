"""Dividing a manifest into train, val and test: stratified, grouped, seeded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping

import numpy as np

from dermino.data.manifest import Manifest
from dermino.data.schema import SPLITS
from dermino.errors import UserError, nearest, unknown
from dermino.progress import track

HALVES: Mapping[str, float] = {"train": 0.5, "test": 0.5}
_GROUPS = ("patient_id", "lesion_id")


def split(
    manifest: Manifest,
    fractions: Mapping[str, float] = HALVES,
    stratify: str | None = "labels",
    group: str | None = "auto",
    seed: int = 0,
) -> Manifest:
    """Write a ``split`` column in which every class keeps the fractions and no group is divided.

    Rows with the same dataset and the same set of labels are one class. Groups are placed largest
    first, each where its classes are furthest below their share in proportion to it, so that every
    split gets its share of large groups and of single images.

    Parameters
    ----------
    manifest:
        What to divide; an official split in it is replaced.
    fractions:
        Share of each split; they add up to 1. The paper divides in halves (section 4.2).
    stratify:
        Column whose values keep their shares; None for none.
    group:
        Column whose values stay together. ``auto``: ``patient_id`` where the dataset knows it,
        else ``lesion_id``, else none. Rows without a value stand alone.
    seed:
        Another seed gives another split; the same one always the same.

    Raises
    ------
    UserError
        For an unknown split or column, fractions that do not add up to 1, or fewer groups than
        splits.
    """
    names, shares = _check_fractions(fractions)
    strata = _strata(manifest, stratify)
    members = _members(_group_keys(manifest, group))
    if len(members) < len(names):
        raise UserError(
            f"{len(members)} groups cannot be divided into {len(names)} splits.",
            f"Group by another column than '{group}', or do not group.",
        )
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(members))
    sizes = np.array([len(rows) for rows in members])
    order = order[np.argsort(-sizes[order], kind="stable")]

    placed = np.zeros((int(strata.max()) + 1, len(shares)))
    part = np.empty(len(manifest), dtype=np.int64)
    for index in track(order.tolist(), "Dividing groups"):
        rows = members[index]
        classes, added = np.unique(strata[rows], return_counts=True)
        # How full each split would be, as in Webster's method of sharing out seats: for the group's
        # classes, and with less weight for the whole, which decides where classes are too small.
        full = (placed[classes] + added[:, None] / 2) / shares
        total = (placed.sum(axis=0) + len(rows) / 2) / shares
        score = (full * (added / len(rows))[:, None]).sum(axis=0) + total / 4
        best = int(np.argmin(np.round(score, 9)))
        part[rows] = best
        placed[classes, best] += added
    return manifest.with_columns(split=np.array(names, dtype=object)[part].tolist())


def _check_fractions(fractions: Mapping[str, float]) -> tuple[list[str], np.ndarray]:
    for name, share in fractions.items():
        if name not in SPLITS or not name:
            raise unknown("split", name, [known for known in SPLITS if known])
        if not 0 <= share <= 1:
            raise UserError(f"The share of '{name}' is {share}.", "Give shares between 0 and 1.")
    used = {name: share for name, share in fractions.items() if share > 0}
    if not used or abs(sum(used.values()) - 1) > 1e-6:
        raise UserError(
            f"The shares add up to {sum(used.values()):g}, not 1.",
            "For example --train 0.7 --val 0.1 --test 0.2.",
        )
    return list(used), np.array(list(used.values()))


def _strata(manifest: Manifest, column: str | None) -> np.ndarray:
    """Number the classes that keep their shares, one number a row."""
    datasets = manifest.column("dataset")
    values: list[Hashable] = [None] * len(manifest)
    if column is not None:
        _require(manifest, column)
        given = manifest.column(column)
        values = [tuple(sorted(value)) if isinstance(value, list) else value for value in given]
    numbers: dict[Hashable, int] = {}
    keys = zip(datasets, values, strict=True)
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=np.int64)


def _group_keys(manifest: Manifest, column: str | None) -> list[Hashable]:
    """What holds rows together; a value is only meaningful within its dataset."""
    datasets = manifest.column("dataset")
    alone: list[Hashable] = list(range(len(manifest)))
    if column is None:
        return alone
    if column != "auto":
        _require(manifest, column)
        values = {name: manifest.column(column) for name in set(datasets)}
    else:
        values = {name: _first_known(manifest, name, datasets) for name in set(datasets)}
    return [
        row if values[dataset][row] is None else (dataset, values[dataset][row])
        for row, dataset in enumerate(datasets)
    ]


def _first_known(manifest: Manifest, dataset: str, datasets: list[str]) -> list[Hashable]:
    for column in _GROUPS:
        values = manifest.column(column)
        if any(
            value is not None and name == dataset
            for value, name in zip(values, datasets, strict=True)
        ):
            return values
    return [None] * len(manifest)


def _members(keys: list[Hashable]) -> list[np.ndarray]:
    rows: dict[Hashable, list[int]] = defaultdict(list)
    for row, key in enumerate(keys):
        rows[key].append(row)
    return [np.array(group) for group in rows.values()]


def _require(manifest: Manifest, column: str) -> None:
    names = manifest.table.column_names
    if column not in names:
        guess = nearest(column, names)
        hint = f"Did you mean '{guess}'? " if guess else ""
        raise UserError(
            f"The manifest has no column '{column}'.", f"{hint}It has: {', '.join(names)}."
        )
