"""Checks that a table is a manifest; messages name the column, the row (from 1) and a value."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dermino.data.schema import COLUMNS, Column
from dermino.errors import UserError, nearest


def validate(table: pa.Table) -> pa.Table:
    """Return the table with canonical column types.

    Raises
    ------
    UserError
        For a column that is missing or stands there twice, a type that cannot be converted, a
        value that is not allowed, or an image path that leaves the root.
    """
    for name in COLUMNS:
        if table.column_names.count(name) > 1:
            raise UserError(f"The manifest has two columns '{name}'.", "Remove one of them.")
    for name, column in COLUMNS.items():
        if name in table.column_names:
            table = _cast(table, name, column)
            _check_values(table[name], name, column)
        elif name == "split":
            table = table.append_column(name, pa.repeat(pa.scalar(""), table.num_rows))
        elif name == "labels":
            empty = pa.array([[]], column.type).take(pa.repeat(pa.scalar(0), table.num_rows))
            table = table.append_column(name, empty)
        elif column.required:
            guess = nearest(name, table.column_names)
            hint = f"Is it '{guess}'? " if guess else ""
            columns = ", ".join(table.column_names)
            raise UserError(
                f"The manifest has no column '{name}'.", f"{hint}Its columns: {columns}."
            )
    _check_paths(table["image"], "image")
    if "mask" in table.column_names:
        _check_paths(table["mask"], "mask")
    return table


def _cast(table: pa.Table, name: str, column: Column) -> pa.Table:
    values = table[name]
    if values.type != column.type:
        try:
            values = values.cast(column.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise UserError(
                f"Column '{name}' holds {values.type}, not {column.type}: {error}."
            ) from error
    if name in {"split", "labels"} and values.null_count:
        values = pc.fill_null(values, "") if name == "split" else _fill_empty_lists(values)
    if values is table[name]:
        return table
    return table.set_column(table.column_names.index(name), name, values)


def _fill_empty_lists(values: pa.ChunkedArray) -> pa.Array:
    return pa.array([items or [] for items in values.to_pylist()], values.type)


def _check_values(values: pa.ChunkedArray, name: str, column: Column) -> None:
    if column.required and not column.allowed:
        problem = "holds an empty name" if pa.types.is_list(column.type) else "is empty"
        _fail(_is_empty(values), values, name, problem)
    if column.allowed:
        allowed = pc.is_in(values, pa.array(column.allowed))
        bad = pc.and_(pc.invert(allowed), pc.is_valid(values))
        known = ", ".join(option or "(empty)" for option in column.allowed)
        _fail(bad, values, name, "is not allowed", f"Allowed: {known}.")
    limits = f"Allowed: {column.minimum} to {column.maximum}."
    if column.minimum is not None:
        _fail(pc.less(values, column.minimum), values, name, "is too small", limits)
    if column.maximum is not None:
        _fail(pc.greater(values, column.maximum), values, name, "is too large", limits)


def _is_empty(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which values are null or empty text; of lists, which hold such a name."""
    if not pa.types.is_list(values.type):
        return pc.fill_null(pc.equal(values, ""), True)
    lists = values.combine_chunks()
    empty = pc.fill_null(pc.equal(pc.list_flatten(lists), ""), True)
    owners = np.asarray(pc.list_parent_indices(lists).filter(empty))
    bad = np.zeros(len(values), dtype=bool)
    bad[owners] = True
    return pa.chunked_array([bad])


def _check_paths(values: pa.ChunkedArray, name: str) -> None:
    outside = pc.match_substring_regex(values, r"^(/|\\|[A-Za-z]:)|(^|[/\\])\.\.([/\\]|$)")
    remedy = "Paths must be relative to the manifest's root and stay inside it."
    _fail(outside, values, name, "leaves the root", remedy)


def _fail(
    bad: pa.ChunkedArray, values: pa.ChunkedArray, name: str, problem: str, remedy: str = ""
) -> None:
    if not pc.any(bad, min_count=0).as_py():
        return
    place = pc.index(bad, True).as_py()
    count = pc.sum(bad).as_py()
    others = f" ({count} rows in all)" if count > 1 else ""
    value = values[place].as_py()
    raise UserError(f"Row {place + 1}, column '{name}': {value!r} {problem}{others}.", remedy)
