"""Recognising a publisher's layout by the files that no other publisher ships."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from fnmatch import fnmatch, translate
from pathlib import Path

from dermino.data.file_index import FileIndex
from dermino.data.text_table import first_row
from dermino.errors import UserError


def is_recognised(tells: Collection[str], root: Path, files: Sequence[str]) -> bool:
    """Whether every tell is found among the files.

    A tell is a pattern of a file's name, whatever its case and depth. Folders above it, columns of
    a table, the value of a column in the table's first row, and alternatives may be given::

        HAM10000_metadata*
        melanoma/*.jpg
        SD-198/* | images.txt
        metadata.csv: img_id, fitspatrick | pad.csv
        metadata*.csv: isic_id, attribution=*Buenos Aires*

    Parameters
    ----------
    tells:
        The tells of one layout; without any it is never recognised.
    root:
        The folder.
    files:
        The files, relative to it.
    """
    return bool(tells) and all(any(_fitting(tell, root, files)) for tell in tells)


def recognised_table(index: FileIndex, tells: Sequence[str], *patterns: str) -> Path:
    """Return where the table lies that a layout is recognised by, among others of its name.

    Parameters
    ----------
    index:
        The files.
    tells:
        The tells of the layout, the most particular one last.
    patterns:
        Which file it is where no tell fits.

    Raises
    ------
    UserError
        If there is none.
    """
    files = (file for tell in reversed(tells) for file in _fitting(tell, index.root, index.files))
    found = next(files, None)
    return index.one(*patterns) if found is None else index.root / found


def _fitting(tell: str, root: Path, files: Sequence[str]) -> Iterator[str]:
    for alternative in tell.split("|"):
        pattern, _, columns = alternative.partition(":")
        fits = re.compile(f"(?i:(?:.*/)?{translate(pattern.strip())})").match
        for file in filter(fits, files):
            if not columns or _has(columns.split(","), root / file):
                yield file


def _has(columns: Sequence[str], path: Path) -> bool:
    try:
        row = {name.lower(): value.lower() for name, value in first_row(path).items()}
    except UserError:  # Not a table: somebody else's file of that name.
        return False
    wanted = [column.strip().lower().partition("=") for column in columns]
    return all(name in row and fnmatch(row[name], value or "*") for name, _, value in wanted)
