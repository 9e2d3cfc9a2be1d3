"""Tables as text files: comma, semicolon or tab separated, every value kept as it is written."""

from __future__ import annotations

import csv
import io
from itertools import zip_longest
from typing import TextIO

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv

from dermino.data.findings import Finding
from dermino.data.reference import Reference, open_binary
from dermino.errors import UserError

_DELIMITERS = ",;\t"


def read_text_table(path: Reference, findings: list[Finding] | None = None) -> pd.DataFrame:
    """Read a table with every value as text and empty fields as None.

    Text keeps what number parsing loses: leading zeros, long ids, ``True`` beside ``UNK``.

    Parameters
    ----------
    path:
        UTF-8 file with a header line, separated by commas, semicolons or tabs; it may lie in an
        archive.
    findings:
        Rows with too many or too few fields are reported here and left out; without it they are
        an error.

    Returns
    -------
    pandas.DataFrame
        Indexed by the row's number in the file, the first below the header being 1.

    Raises
    ------
    UserError
        If the file is absent, empty, not UTF-8, or names a column twice.
    """
    names, delimiter = _header(path)
    left_out: dict[int, str] = {}

    def leave_out(row: pacsv.InvalidRow) -> str:
        left_out[row.number - 1] = f"{row.actual_columns} fields, not {row.expected_columns}"
        return "skip"

    try:
        table = pacsv.read_csv(
            open_binary(path),
            # Rows are numbered only when they are read by one thread.
            read_options=pacsv.ReadOptions(use_threads=False),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter,
                newlines_in_values=True,
                invalid_row_handler=None if findings is None else leave_out,
            ),
            convert_options=pacsv.ConvertOptions(
                column_types={name: pa.string() for name in names},
                strings_can_be_null=True,
                null_values=[""],
                quoted_strings_can_be_null=True,
            ),
        )
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        remedy = "Save it as UTF-8 CSV, and quote values that contain the separator."
        raise UserError(f"'{path}' cannot be read as CSV: {error}.", remedy) from error
    frame = table.to_pandas().astype(object)
    frame = frame.where(frame.notna(), None)
    frame.columns = pd.Index([name.strip() for name in names])
    numbers = range(1, len(frame) + len(left_out) + 1)
    frame.index = pd.Index([number for number in numbers if number not in left_out])
    for number, detail in left_out.items():
        remedy = "Quote values that contain the separator."
        assert findings is not None
        findings.append(Finding("error", "broken row", detail, str(path), number, remedy))
    return frame


def first_row(path: Reference) -> dict[str, str]:
    """Return the columns of a table with the values of its first row, empty where it has none.

    Raises
    ------
    UserError
        If the file is absent, empty, not UTF-8, or names a column twice.
    """
    names, delimiter = _header(path)
    with _open_text(path, errors="replace") as file:
        rows = csv.reader(file, delimiter=delimiter)
        next(rows)
        values = next(rows, [])
    return dict(zip_longest((name.strip() for name in names), values[: len(names)], fillvalue=""))


def _open_text(path: Reference, errors: str = "strict") -> TextIO:
    try:
        file = open_binary(path)
    except OSError as error:
        raise UserError(f"Cannot read '{path}': {error.strerror or 'no such file'}.") from error
    return io.TextIOWrapper(file, encoding="utf-8-sig", newline="", errors=errors)


def _header(path: Reference) -> tuple[list[str], str]:
    try:
        with _open_text(path) as file:
            first = file.readline()
            delimiter = max(_DELIMITERS, key=first.count)
            file.seek(0)
            names = next(csv.reader(file, delimiter=delimiter), [])
    except UnicodeDecodeError as error:
        raise UserError(f"'{path}' is not UTF-8 text.", "Save it as UTF-8 CSV.") from error
    if not any(name.strip() for name in names):
        raise UserError(f"'{path}' is empty.", "A CSV needs a header line and at least one row.")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise UserError(f"'{path}' has two columns called '{min(twice)}'.", "Rename one of them.")
    return names, delimiter
