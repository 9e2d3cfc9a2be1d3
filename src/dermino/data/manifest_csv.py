"""Manifests as CSV: our own columns, or PanDerm's ``image,label|binary_label,split``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv

from dermino.data.schema import COLUMNS
from dermino.errors import UserError
from dermino.files import atomic_path

if TYPE_CHECKING:
    from dermino.data.manifest import Manifest

SEPARATOR = ";"


def read_csv(path: Path, root: str | Path | None = None) -> Manifest:
    """Read a CSV manifest; ``labels`` holds names joined by ``;`` (or one ``label`` column).

    The dataset is the file's name where there is no ``dataset`` column. Columns are matched by
    their exact names; use ``dermino data import csv`` for a table with other names.
    """
    from dermino.data.manifest import Manifest

    frame = read_text_table(path)
    for alias in ("label", "binary_label"):
        if alias in frame.columns and "labels" not in frame.columns:
            frame = frame.rename(columns={alias: "labels"})
    if "labels" in frame.columns:
        frame["labels"] = frame["labels"].map(split_labels)
    if "dataset" not in frame.columns:
        frame["dataset"] = path.stem
    for name, column in COLUMNS.items():
        if name in frame.columns and name != "labels" and not pa.types.is_string(column.type):
            parsed = parse_column(frame[name], column.type, name, path)
            frame[name] = pd.Series(parsed, dtype=object)
    if "split" in frame.columns:
        frame["split"] = frame["split"].fillna("")
    return Manifest.from_frame(frame, root if root is not None else path.parent)


def write_csv(manifest: Manifest, path: Path) -> None:
    """Write a manifest as CSV; licence, citation and vocabulary go to ``<name>.sources.json``."""
    frame = manifest.table.to_pandas()
    frame["labels"] = [SEPARATOR.join(names) for names in manifest.labels]
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False)


def read_text_table(path: Path) -> pd.DataFrame:
    """Read a comma, semicolon or tab separated file with every value as text, empty as missing."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            header = file.readline()
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' is not UTF-8 text.", "Save it as UTF-8 CSV.") from error
    if not header.strip():
        raise UserError(f"'{path}' is empty.", "A CSV needs a header line and at least one row.")
    delimiter = max(",;\t", key=header.count)
    try:
        table = pacsv.read_csv(
            path,
            parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(
                column_types={name: pa.string() for name in _names(header, delimiter)},
                strings_can_be_null=True,
                null_values=[""],
                quoted_strings_can_be_null=True,
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' cannot be read as CSV: {error}.") from error
    frame = table.to_pandas().astype(object)
    frame = frame.where(frame.notna(), None)
    return frame.rename(columns=lambda name: str(name).strip().lstrip("\ufeff"))


def _names(header: str, delimiter: str) -> list[str]:
    names = [name.strip("\r\n").strip('"') for name in header.split(delimiter)]
    return names


def split_labels(text: str | None) -> list[str]:
    """Split ``a;b`` or a JSON list of names; empty text gives no label."""
    if not text or not text.strip():
        return []
    if text.lstrip().startswith("["):
        try:
            return [str(name) for name in json.loads(text)]
        except json.JSONDecodeError:
            pass
    return [name.strip() for name in text.split(SEPARATOR) if name.strip()]


def parse_column(values: pd.Series, kind: pa.DataType, name: str, path: Path) -> list[object]:
    """Convert text to the column's type; a UserError names the first row that does not fit."""
    parsed: list[object] = []
    for row, text in enumerate(values):
        try:
            parsed.append(None if text is None else _parse(text.strip(), kind))
        except ValueError as error:
            raise UserError(
                f"{path}, line {row + 2}, column '{name}': {text!r} is not {kind}.",
                "Correct the value or leave it empty.",
            ) from error
    return parsed


def _parse(text: str, kind: pa.DataType) -> object:
    if pa.types.is_boolean(kind):
        if text.lower() in {"1", "true", "yes", "1.0"}:
            return True
        if text.lower() in {"0", "false", "no", "0.0"}:
            return False
        raise ValueError(text)
    if pa.types.is_date(kind):
        return pd.Timestamp(text).date()
    number = float(text)
    if pa.types.is_integer(kind):
        if number != int(number):
            raise ValueError(text)
        return int(number)
    return number
