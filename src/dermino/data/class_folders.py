"""Datasets that say in which folder a picture lies what it shows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pandas as pd

from dermino.data.file_index import FileIndex, folders
from dermino.data.findings import Finding
from dermino.errors import UserError


def folder_classes(files: Iterable[str], classes: Sequence[str]) -> list[str | None]:
    """Return for each file the class after which the innermost of its folders is called.

    Parameters
    ----------
    files:
        Paths with forward slashes.
    classes:
        The publisher's names. Case and punctuation of the folders are not compared, as unpacking
        changes both.

    Returns
    -------
    list
        One of ``classes`` per file, None for a file in none of their folders.
    """
    by_letters = {_letters(name): name for name in classes}
    return [
        next(
            (
                by_letters[_letters(folder)]
                for folder in reversed(folders(file))
                if _letters(folder) in by_letters
            ),
            None,
        )
        for file in files
    ]


def read_class_folders(
    index: FileIndex, classes: Sequence[str], findings: list[Finding]
) -> pd.DataFrame:
    """Return a table with ``image`` and ``labels`` of all pictures that lie in a class folder.

    Parameters
    ----------
    index:
        The files.
    classes:
        The publisher's names of the folders, which are the labels.
    findings:
        Pictures elsewhere are reported here and left out.

    Raises
    ------
    UserError
        If no picture lies in such a folder.
    """
    labels = folder_classes(index.images, classes)
    if not any(labels):
        hint = f"Unpack {index.archives[0]} first. " if index.archives else ""
        shown = ", ".join(classes[:3])
        raise UserError(
            f"No picture in '{index.root}' or below it lies in a folder of a class.",
            f"{hint}The {len(classes)} folders are called {shown}{', ...' * (len(classes) > 3)}.",
        )
    remedy = "It is left out. Import with the source 'folder' to use other folders."
    findings += [
        Finding("warning", "image lies in no class folder", path=file, remedy=remedy)
        for file, label in zip(index.images, labels, strict=True)
        if label is None
    ]
    rows = [(f, [label]) for f, label in zip(index.images, labels, strict=True) if label]
    return pd.DataFrame(rows, columns=["image", "labels"])


def _letters(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())
