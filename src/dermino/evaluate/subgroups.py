"""How images are divided into groups: skin types in pairs, ages in bands, other columns as are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow.types as pt

from dermino.data.manifest import Manifest
from dermino.errors import UserError, unknown

SKIN_TYPE, AGE = "skin_type", "age"
COLUMNS = (SKIN_TYPE, "sex", AGE)
AGE_EDGES = (30.0, 50.0, 70.0)
UNKNOWN = "unknown"
_SKIN_TYPE_PAIRS = ("I-II", "III-IV", "V-VI")
_PAIRS_COLUMN = "skin_type_group"
_MOST_GROUPS = 20


@dataclass(frozen=True)
class Division:
    """Images divided by one column.

    Parameters
    ----------
    column:
        The manifest column.
    names:
        The G groups that have an image, in their order.
    group:
        Number of each image's group, shape (n,); -1 where the manifest does not tell.
    """

    column: str
    names: tuple[str, ...]
    group: np.ndarray

    def parts(self) -> dict[str, np.ndarray]:
        """Return the row numbers of each group by its name in results, ``sex=female``.

        Images of unknown group come last, as ``sex=unknown``, where there are any.
        """
        named = {name: np.flatnonzero(self.group == g) for g, name in enumerate(self.names)}
        rest = np.flatnonzero(self.group < 0)
        if len(rest):
            named[UNKNOWN] = rest
        return {f"{self.column}={name}": rows for name, rows in named.items()}


def divide(
    manifest: Manifest, columns: Sequence[str], age_edges: Sequence[float] = AGE_EDGES
) -> list[Division]:
    """Divide images by several columns.

    ``skin_type`` is taken in the pairs I-II, III-IV, V-VI; where only the pair is known, as in
    DDI, the column ``skin_type_group`` tells it. ``age`` is taken in bands. Another column of many
    numbers is divided into thirds; of other columns every value is a group.

    Parameters
    ----------
    manifest:
        The images, n rows.
    columns:
        Manifest columns.
    age_edges:
        First age of every band but the youngest, rising.

    Raises
    ------
    UserError
        For a column that is not there or does not hold categories.
    """
    return [_divide(manifest, column, age_edges) for column in columns]


def known_columns(manifest: Manifest, columns: Sequence[str]) -> list[str]:
    """Return those of the columns that the manifest tells of at least one image."""
    return [
        column
        for column in columns
        if any(value is not None for name in _read(column) for value in manifest.column(name))
    ]


def _read(column: str) -> tuple[str, ...]:
    return (SKIN_TYPE, _PAIRS_COLUMN) if column == SKIN_TYPE else (column,)


def _divide(manifest: Manifest, column: str, age_edges: Sequence[float]) -> Division:
    if column not in manifest.table.column_names:
        raise unknown("column of the manifest", column, manifest.table.column_names)
    values = manifest.column(column)
    if column == SKIN_TYPE:
        return _by_name(column, _skin_type_pairs(values, manifest.column(_PAIRS_COLUMN)))
    kind = manifest.table.schema.field(column).type
    if pt.is_nested(kind):
        raise UserError(
            f"Column '{column}' holds lists, not groups.", "Choose a column of categories."
        )
    if column == AGE:
        return _banded(column, values, age_edges)
    known = {value for value in values if value is not None}
    if len(known) <= _MOST_GROUPS:
        return _by_name(column, values)
    if not (pt.is_integer(kind) or pt.is_floating(kind)):
        raise UserError(
            f"Column '{column}' has {len(known)} different values, too many to compare.",
            f"Choose a column with at most {_MOST_GROUPS}.",
        )
    numbers = [float(value) for value in values if value is not None]
    return _banded(column, values, np.unique(np.quantile(numbers, [1 / 3, 2 / 3])))


def _skin_type_pairs(types: Sequence[int | None], pairs: Sequence[str | None]) -> list[str | None]:
    return [
        pair if kind is None else _SKIN_TYPE_PAIRS[(kind - 1) // 2]
        for kind, pair in zip(types, pairs, strict=True)
    ]


def _by_name(column: str, values: Sequence[Any]) -> Division:
    names = {value: number for number, value in enumerate(sorted({*values} - {None}))}
    group = np.array([names.get(value, -1) for value in values], np.int64)
    return Division(column, tuple(_text(value) for value in names), group)


def _banded(column: str, values: Sequence[Any], edges: Sequence[float] | np.ndarray) -> Division:
    bounds = [_text(float(edge)) for edge in edges]
    inner = [f"{low} to below {high}" for low, high in pairwise(bounds)]
    names = np.array([f"below {bounds[0]}", *inner, f"{bounds[-1]} and above"], object)
    numbers = np.array([np.nan if value is None else value for value in values], np.float64)
    band = np.digitize(numbers, edges)
    known = ~np.isnan(numbers)
    found, group = np.unique(band[known], return_inverse=True)
    every = np.full(len(values), -1)
    every[known] = group
    return Division(column, tuple(names[found].tolist()), every)


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
