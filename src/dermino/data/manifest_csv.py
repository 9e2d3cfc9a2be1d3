"""Manifests as CSV: our own columns, or PanDerm's ``image,label|binary_label,split``."""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pyarrow as pa

from dermino.data.schema import COLUMNS
from dermino.data.text_table import read_text_table
from dermino.errors import UserError
from dermino.files import atomic_path, write_json

if TYPE_CHECKING:
    from dermino.data.manifest import Manifest

SEPARATOR = ";"


def read_csv(path: Path, root: str | Path | None = None) -> Manifest:
    """Read a CSV manifest; ``labels`` holds names joined by ``;`` (or one ``label`` column).

    The dataset is the file's name where there is no ``dataset`` column. Columns are matched by
    their exact names; use ``dermino data import csv`` for a table with other names. The root and
    the sources come from ``<name>.sources.json``, where :func:`write_csv` has left one.
    """
    from dermino.data.manifest import Manifest, refuse_no_rows
    from dermino.data.source_info import parse_description

    frame = read_text_table(path)
    refuse_no_rows(len(frame), path)
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
            frame[name] = pd.Series(parsed, frame.index, dtype=object)
    if "split" in frame.columns:
        frame["split"] = frame["split"].fillna("")
    sidecar = _sidecar(path)
    stored = sidecar.read_bytes() if sidecar.is_file() else b"{}"
    described_root, sources = parse_description(stored, sidecar)
    try:
        return Manifest.from_frame(frame, root or described_root, sources.values())
    except UserError as error:
        raise UserError(f"{path}: {error.message}", error.remedy) from error


def write_csv(manifest: Manifest, path: Path) -> None:
    """Write a manifest as CSV; root, licences and vocabularies go to ``<name>.sources.json``."""
    frame = manifest.table.to_pandas()
    frame["labels"] = [_join_labels(names) for names in manifest.labels]
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False)
    write_json(_sidecar(path), manifest.describe(path.parent))


def _sidecar(path: Path) -> Path:
    return path.with_suffix(".sources.json")


def _join_labels(names: list[str]) -> str:
    if any(SEPARATOR in name or name.startswith("[") for name in names):
        return json.dumps(names, ensure_ascii=False)
    return SEPARATOR.join(names)


def split_labels(text: str | None, separator: str = SEPARATOR) -> list[str]:
    """Split ``a;b`` or a JSON list of names; empty text gives no label."""
    if not text or not text.strip():
        return []
    if text.lstrip().startswith("["):
        try:
            return [str(name) for name in json.loads(text) if name is not None]
        except json.JSONDecodeError:
            pass
    return [name.strip() for name in text.split(separator) if name.strip()]


def parse_column(values: pd.Series, kind: pa.DataType, name: str, path: Path) -> list[object]:
    """Convert text to the column's type; a UserError names the first row that does not fit."""
    parsed: list[object] = []
    for row, text in values.items():
        try:
            parsed.append(None if text is None else parse_value(text, kind))
        except ValueError as error:
            raise UserError(
                f"{path}, row {row}, column '{name}': {text!r} is not {kind}.",
                "Correct the value or leave it empty.",
            ) from error
    return parsed


def parse_value(text: str, kind: pa.DataType) -> object:
    """Convert one text to an Arrow type of the schema; a ValueError says that it does not fit."""
    text = text.strip()
    if pa.types.is_string(kind):
        return text
    if pa.types.is_boolean(kind):
        if text.lower() in {"1", "true", "yes", "1.0"}:
            return True
        if text.lower() in {"0", "false", "no", "0.0"}:
            return False
        raise ValueError(text)
    if pa.types.is_date(kind):
        # Other forms are ambiguous: 03/04/2021 is a day in March or in April.
        return datetime.fromisoformat(text).date()
    number = float(text)
    if pa.types.is_integer(kind):
        if not math.isfinite(number) or number != int(number):
            raise ValueError(text)
        return int(number)
    return number
