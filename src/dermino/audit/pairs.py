"""From what a search found to a table of pairs, each with what is wrong about it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, product
from typing import Literal, get_args

import numpy as np
import pandas as pd

from dermino.audit.collection import Collection
from dermino.data.identity import NameIndex, group_names, image_names, shared_names

Problem = Literal[
    "test image seen in pretraining",
    "same image in several splits",
    "same image, different labels",
    "training image seen in pretraining",
    "same image twice",
]
PROBLEMS: tuple[Problem, ...] = get_args(Problem)
LEAKS: tuple[Problem, ...] = PROBLEMS[:2]
_PAIRED_AT_MOST = 50
_HELD_BACK = ("val", "test")


def named_alike(collection: Collection) -> pd.DataFrame:
    """Find the pairs of rows that are one image by their names; columns ``a`` < ``b``."""
    names = image_names(collection.manifest)
    pairs = [pair for rows in shared_names(names) for pair in combinations(sorted(rows), 2)]
    held = np.flatnonzero(collection.pretraining)
    asked = np.flatnonzero(~collection.pretraining)
    if len(held):
        found = NameIndex(names.take(held)).find(names.take(asked))
        pairs += [
            (int(a), int(held[b])) for a, rows in zip(asked, found, strict=True) for b in rows
        ]
    return _frame(pairs)


def equal_content(collection: Collection, contents: np.ndarray) -> pd.DataFrame:
    """Find the pairs of rows with equal content; columns ``a`` < ``b``.

    Parameters
    ----------
    collection:
        n rows.
    contents:
        Numbers of their contents, (n,).
    """
    members = _members(collection, contents)
    return _frame([pair for rows in members if len(rows) > 1 for pair in combinations(rows, 2)])


def spread(collection: Collection, contents: np.ndarray, pairs: pd.DataFrame) -> pd.DataFrame:
    """Turn pairs of contents into the pairs of rows that have them; columns ``a`` < ``b``."""
    members = _members(collection, contents)
    found = [
        pair for a, b in zip(pairs["a"], pairs["b"], strict=True)
        for pair in product(members[a], members[b])
    ]  # fmt: skip
    return _frame([(min(pair), max(pair)) for pair in found])


def described(collection: Collection, pairs: pd.DataFrame) -> pd.DataFrame:
    """Say of each pair what its two images are and what is wrong about having both.

    Parameters
    ----------
    collection:
        The images.
    pairs:
        ``a`` and ``b``, row numbers; other columns are kept. Of two images the one that was
        pretrained on becomes ``b``, as it comes later. Pairs within the pretraining images are
        left out.

    Returns
    -------
    pd.DataFrame
        For ``_a`` and ``_b``: ``manifest``, ``dataset``, ``split``, ``labels``, ``image`` and
        ``origin`` (as in :func:`dermino.data.identity.image_names`) and ``path`` (where it lies
        below the root of the audit); ``same_lesion`` and ``same_patient`` (None where not
        known); ``problem``, one of :data:`PROBLEMS`. The worst come first.
    """
    pairs = pairs[~collection.pretraining[pairs["a"]]].reset_index(drop=True)
    manifest = collection.manifest
    names = image_names(manifest)
    known = {
        "manifest": np.array(collection.names, object)[collection.origins],
        **{name: _objects(manifest.column(name)) for name in ("dataset", "split", "labels")},
        **{name: _objects(names[name].to_pylist()) for name in ("image", "origin")},
        "path": _objects(manifest.column("image")),
    }
    for side in ("a", "b"):
        for name, values in known.items():
            pairs[f"{name}_{side}"] = values[pairs[side]]
    for column, shared in (("lesion_id", "same_lesion"), ("patient_id", "same_patient")):
        groups = _objects(group_names(manifest, column))
        first, second = groups[pairs["a"]], groups[pairs["b"]]
        pairs[shared] = [
            None if one is None or two is None else one == two
            for one, two in zip(first, second, strict=True)
        ]
        pairs[shared] = pairs[shared].astype("boolean")
    pretrained = collection.pretraining[pairs["b"]]
    pairs["problem"] = [
        _problem(*row)
        for row in zip(
            pairs["split_a"], pairs["split_b"], pretrained, _labels_differ(pairs), strict=True
        )
    ]
    order = pairs["problem"].map(PROBLEMS.index)
    nearness = ["hash_distance", "cosine"]
    pairs = pairs.assign(order=order).sort_values(
        ["order", *nearness, "a", "b"], ascending=[True, True, False, True, True], ignore_index=True
    )
    return pairs.drop(columns=["order", "a", "b"])


def _problem(first: str, second: str, pretrained: bool, labels_differ: bool) -> Problem:
    if pretrained:
        return PROBLEMS[3] if first == "train" else PROBLEMS[0]
    splits = {first, second} - {""}
    if len(splits) == 2 and splits & set(_HELD_BACK):
        return PROBLEMS[1]
    return PROBLEMS[2] if labels_differ else PROBLEMS[4]


def _labels_differ(pairs: pd.DataFrame) -> list[bool]:
    """Whether labels of one dataset contradict each other; two datasets may name them otherwise."""
    columns = ("dataset_a", "dataset_b", "labels_a", "labels_b")
    return [
        one == other and bool(first) and bool(second) and set(first) != set(second)
        for one, other, first, second in zip(*(pairs[name] for name in columns), strict=True)
    ]


def _members(collection: Collection, contents: np.ndarray) -> list[list[int]]:
    """The rows of each content; of a content in very many rows some of each split and manifest."""
    frame = pd.DataFrame(
        {
            "content": contents,
            "split": collection.manifest.column("split"),
            "origin": collection.origins,
        }
    )
    turn = frame.groupby(["content", "split", "origin"]).cumcount()
    chosen = frame.assign(turn=turn).sort_values(["content", "turn"], kind="stable")
    chosen = chosen.groupby("content").head(_PAIRED_AT_MOST)
    rows = chosen.groupby("content").groups
    return [sorted(rows[content]) for content in range(len(rows))]


def _frame(pairs: Sequence[tuple[int, int]]) -> pd.DataFrame:
    array = np.array(pairs, np.int64).reshape(-1, 2)
    return pd.DataFrame(np.unique(array, axis=0), columns=["a", "b"])


def _objects(values: Sequence[object]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array
