"""Turning a publisher's text columns into the manifest's values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa

from dermino.data.findings import Finding
from dermino.data.manifest_csv import parse_value
from dermino.data.schema import COLUMNS, Column
from dermino.errors import UserError, nearest

UNKNOWN = frozenset({"", "unknown", "unk", "na", "n/a", "nan", "none", "null", "-", "-1"})
_UNTYPED = frozenset({"image", "dataset", "labels", "mask"})
_SEXES = {"f": "female", "m": "male", "woman": "female", "man": "male"}
_ROMAN = {"i": "1", "ii": "2", "iii": "3", "iv": "4", "v": "5", "vi": "6"}
_SPLITS = {
    "training": "train",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "testing": "test",
}


def require_columns(frame: pd.DataFrame, names: Iterable[str], path: Path) -> None:
    """Raise a UserError unless the table at ``path`` has all the columns."""
    for name in names:
        if name not in frame.columns:
            guess = nearest(name, map(str, frame.columns))
            hint = f"Is it '{guess}'? " if guess else ""
            columns = ", ".join(map(str, frame.columns))
            raise UserError(f"'{path}' has no column '{name}'.", f"{hint}It has: {columns}.")


def typed(values: pd.Series, name: str, path: Path, findings: list[Finding]) -> pd.Series:
    """Convert a text column to the values of a manifest column.

    Ways of writing "unknown" become None. So does a value that the column cannot hold, with a
    finding that names its row: one mistyped age must not cost the image.

    Parameters
    ----------
    values:
        Text or None, indexed by row number.
    name:
        A column of :data:`dermino.data.schema.COLUMNS`.
    path:
        The table, for the findings.
    findings:
        Where values that do not fit are reported.
    """
    column = COLUMNS[name]
    normalise = _NORMALISE.get(name, str)
    result: list[object] = []
    for row, text in values.items():
        value = None
        if text is not None and str(text).strip().lower() not in UNKNOWN:
            try:
                value = parse_value(normalise(str(text).strip()), column.type)
                _check(value, column)
            except ValueError:
                value = None
                problem = f"value of '{name}' cannot be used and is left empty"
                number = int(str(row))
                findings.append(Finding("warning", problem, repr(text), str(path), number))
        result.append(value)
    return pd.Series(result, index=values.index, dtype=object)


def typed_columns(frame: pd.DataFrame, path: Path, findings: list[Finding]) -> pd.DataFrame:
    """Convert those of a publisher's text columns that bear the name of a manifest column.

    Parameters and what becomes of unusable values are those of :func:`typed`. Labels, image and
    mask need more than a type and stay as they are.
    """
    names = [name for name in COLUMNS if name in frame.columns and name not in _UNTYPED]
    return frame.assign(**{name: typed(frame[name], name, path, findings) for name in names})


def written_out(
    codes: pd.Series, names: Mapping[str, str], path: Path, findings: list[Finding]
) -> pd.Series:
    """Turn a column of diagnosis codes into lists of one label; an unknown code gives none.

    Parameters
    ----------
    codes:
        Text or None, indexed by row number.
    names:
        The label of each code.
    path:
        The table, for the findings.
    findings:
        Where codes without a name are reported.
    """
    remedy = f"The codes are {', '.join(names)}. The image is kept unlabelled."
    problem = f"unknown code in '{codes.name}'"
    for row, code in codes.items():
        if code not in names:
            number = int(str(row))
            findings.append(Finding("warning", problem, repr(code), str(path), number, remedy))
    return codes.map(lambda code: [names[code]] if code in names else [])


def _check(value: object, column: Column) -> None:
    if column.allowed and value not in column.allowed:
        raise ValueError(value)
    if isinstance(value, float | int) and not pa.types.is_boolean(column.type):
        low, high = column.minimum, column.maximum
        if (low is not None and not value >= low) or (high is not None and not value <= high):
            raise ValueError(value)


def _one_of(names: Mapping[str, str]) -> Callable[[str], str]:
    return lambda text: names.get(text.lower(), text.lower())


_NORMALISE: dict[str, Callable[[str], str]] = {
    "skin_type": _one_of(_ROMAN),
    "sex": _one_of(_SEXES),
    "split": _one_of(_SPLITS),
    "modality": _one_of({"dermoscopy": "dermoscopic", "dermatoscopic": "dermoscopic"}),
}
