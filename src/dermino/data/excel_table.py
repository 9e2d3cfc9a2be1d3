"""Tables as Excel workbooks, whose header is often not in the first row."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pandas as pd

from dermino.data.reference import open_binary
from dermino.errors import UserError

_HEADER_WITHIN = 30  # rows


def read_excel_table(path: str | Path, header: str, sheet: int | str = 0) -> pd.DataFrame:
    """Read a sheet with every value as text and empty cells as None.

    Parameters
    ----------
    path:
        ``.xlsx`` file.
    header:
        A column's name: the first row that holds it is the header, what stands above is not read.
        Case and what follows a line break do not count.
    sheet:
        Name or position of the sheet.

    Returns
    -------
    pandas.DataFrame
        Indexed by the row's number below the header, from 1; columns without a name are left out,
        and names end at a line break.

    Raises
    ------
    UserError
        If openpyxl is not installed, the file is no workbook, or no row is the header.
    """
    path = Path(path)
    try:
        with open_binary(path) as file:
            cells = pd.read_excel(file, sheet_name=sheet, header=None, dtype=object)
    except ImportError as error:
        remedy = "Install it with: pip install dermino[excel]"
        raise UserError(f"Reading '{path}' needs openpyxl.", remedy) from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        remedy = "Save it again as .xlsx, or download it again."
        raise UserError(f"'{path}' cannot be read as Excel: {error}.", remedy) from error
    cells = cells.map(_text).astype(object)
    cells = cells.where(cells.notna(), None)
    for number, row in enumerate(cells.head(_HEADER_WITHIN).itertuples(index=False)):
        names = [_name(cell) for cell in row]
        names = [header if name.lower() == header.lower() else name for name in names]
        if header in names:
            named = [place for place, name in enumerate(names) if name]
            table = cells.iloc[number + 1 :, named]
            table.columns = pd.Index([names[place] for place in named])
            table.index = pd.RangeIndex(1, len(table) + 1)
            return table[table.notna().any(axis=1)]
    raise UserError(
        f"None of the first {_HEADER_WITHIN} rows of '{path}' holds '{header}'.",
        "Give the workbook as its publisher ships it.",
    )


def _text(cell: object) -> str | None:
    """Write a cell as it is displayed: whole numbers without a decimal point."""
    if cell is None or cell is pd.NaT or cell != cell:
        return None
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    return str(cell).strip() or None


def _name(cell: str | None) -> str:
    return (cell or "").splitlines()[0].strip() if cell else ""
