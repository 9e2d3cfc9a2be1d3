"""The numbers of a figure as CSV and as a LaTeX table (booktabs)."""

from __future__ import annotations

import base64
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from dermino.files import writable_folder, write_text
from dermino.report.seen import seen_mark

if TYPE_CHECKING:
    from dermino.report.exhibit import Exhibit

_SEEN = "seen_in_pretraining"
_INTERVAL = ("value", "ci_low", "ci_high")
_NOT_PRINTED = ("n", "note", _SEEN)


def csv_text(numbers: pd.DataFrame) -> str:
    """Return the numbers as CSV with six significant digits."""
    return numbers.to_csv(index=False, float_format="%.6g", lineterminator="\n", na_rep="nan")


def latex_text(numbers: pd.DataFrame, caption: str, label: str, across: str = "") -> str:
    """Return the numbers as a table environment for the LaTeX package booktabs.

    Parameters
    ----------
    numbers:
        One row a number. ``value``, ``ci_low`` and ``ci_high`` become one cell; a value whose test
        images were seen in pretraining gets the mark that the page gives it.
    caption, label:
        Of the table.
    across:
        A column whose values become columns.
    """
    table = numbers
    if set(_INTERVAL) <= set(table.columns):
        cells = [_cell(row) for row in table.to_dict("records")]
        table = table.drop(columns=[*_INTERVAL[1:], *_NOT_PRINTED], errors="ignore")
        table = table.assign(value=cells)
    if across:
        names = [name for name in table.columns if name not in (across, "value")]
        order = {name: list(dict.fromkeys(table[name])) for name in (*names, across)}
        wide = table.pivot_table(index=names, columns=across, values="value", aggfunc="first")
        wide = wide.reindex(columns=order[across]).reset_index()
        for name in names:
            wide[name] = pd.Categorical(wide[name], order[name])
        table = wide.sort_values(names).astype(dict.fromkeys(names, object))
        table.columns.name = None
    text = table.to_latex(
        index=False,
        escape=True,
        na_rep="--",
        float_format="%.3f",
        caption=_escaped(caption),
        label=f"tab:{label}",
        position="htbp",
    )
    return f"% \\usepackage{{booktabs}}\n{text}"


def data_uri(text: str, media_type: str) -> str:
    """Return a text as an address that a page can hold."""
    encoded = base64.b64encode(text.encode("utf-8")).decode("ascii")
    return f"data:{media_type};charset=utf-8;base64,{encoded}"


def write_numbers(exhibits: Iterable[Exhibit], folder: str | Path) -> list[Path]:
    """Write the numbers of every exhibit that has any, as ``<name>.csv`` and ``<name>.tex``."""
    folder = writable_folder(folder)
    written = []
    for exhibit in exhibits:
        if not exhibit.numbers.empty:
            for suffix, text in (("csv", exhibit.csv), ("tex", exhibit.latex)):
                path = folder / f"{exhibit.name}.{suffix}"
                write_text(path, text)
                written.append(path)
    return written


def _cell(row: dict[Hashable, object]) -> str:
    value, low, high = (float(str(row[name])) for name in _INTERVAL)
    if pd.isna(value):
        return "--"
    interval = "" if pd.isna(low) or pd.isna(high) else f" ({low:.3f}–{high:.3f})"
    return f"{value:.3f}{interval}{seen_mark(str(row.get(_SEEN, 'none')))}"


def _escaped(text: str) -> str:
    for character in "&%$#_{}":
        text = text.replace(character, f"\\{character}")
    return text
