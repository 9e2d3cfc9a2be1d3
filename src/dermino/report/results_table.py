"""Reading ``results.csv``, the one table that everything is drawn from."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from dermino.errors import UserError

EVALUATE_FIRST = "Make the folder with: dermino evaluate --encoder E --data MANIFEST --out RESULTS"
_NUMBERS = ["value", "ci_low", "ci_high", "n"]
_KEY = ["encoder", "task", "protocol", "subgroup", "metric"]
_COLUMNS = [*_KEY, *_NUMBERS]


def read_table(path: Path) -> pd.DataFrame:
    """Read the table; of rows with one key the last stays.

    Raises
    ------
    UserError
        If it is missing, empty, lacks a column or holds something that is no number.
    """
    if not path.is_file():
        raise UserError(f"There is no '{path}'.", EVALUATE_FIRST)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise UserError(f"'{path}' is not a readable table: {error}.", EVALUATE_FIRST) from error
    for column in _COLUMNS:
        if column not in table.columns:
            raise UserError(
                f"'{path}' has no column '{column}'.", f"It needs: {', '.join(_COLUMNS)}."
            )
    if table.empty:
        raise UserError(f"'{path}' has no rows.", EVALUATE_FIRST)
    for column in _NUMBERS:
        numbers = pd.to_numeric(table[column].replace("", "nan"), errors="coerce")
        wrong = numbers.isna() & ~table[column].str.lower().isin(["", "nan"])
        if wrong.any():
            row = int(wrong.to_numpy().argmax())
            raise UserError(
                f"'{path}', row {row + 2}: {column} is '{table[column].iloc[row]}', not a number.",
                "Correct the cell or evaluate again.",
            )
        table[column] = numbers
    for column in ("seen_in_pretraining", "note"):
        if column not in table.columns:
            table[column] = ""
    return table.drop_duplicates(_KEY, keep="last").reset_index(drop=True)
