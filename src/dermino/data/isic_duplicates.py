"""The published lists of duplicates among the training and test images of ISIC 2016 to 2020."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import pandas as pd

from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.reference import read
from dermino.errors import UserError

# 01 to 11 name training images to leave out, 12 test images.
_LISTS = [f"{number:02}" for number in range(1, 13)]
_LINE = re.compile(r"/(?P<year>20\d\d)/(?P<part>train|test)/(?P<folder>.+)/(?P<name>[^/]+)\.\w+$")
_DOWNSAMPLED = "_downsampled"


def read_duplicate_lists(folder: str | Path, findings: list[Finding]) -> dict[str, frozenset[str]]:
    """Return the training images to leave out, lower-case ids by year.

    Lists 01 to 05 name images of ISIC 2019 in a folder ``downsampled``, without the suffix
    ``_downsampled`` that the publisher's files and tables have: it is added.

    Parameters
    ----------
    folder:
        Where the twelve text files lie, at any depth. Their lines are paths on their authors'
        machine, of which year, folder and name matter.
    findings:
        Where absent lists and lines that cannot be read are reported.

    Raises
    ------
    UserError
        If none of the lists is there.

    Source: Cassidy et al., Analysis of the ISIC image datasets, Medical Image Analysis 75 (2022).
    """
    index = FileIndex(folder)
    named: dict[str, set[str]] = defaultdict(set)
    files = {number: index.find(f"{number}*duplicate*deleted*.txt") for number in _LISTS}
    if not any(files.values()):
        raise UserError(
            f"The duplicate lists of ISIC are not in '{folder}' or below it.",
            "Get file_lists/ of github.com/mmu-dermatology-research/"
            "isic_duplicate_removal_strategy and name it: --set duplicate_lists=FOLDER",
        )
    for number, found in files.items():
        if not found:
            problem = "duplicate list is missing"
            remedy = "Images that it names stay in."
            findings.append(Finding("warning", problem, number, str(folder), remedy=remedy))
        for file in found[:1]:
            for year, name in _lines(index.root / file, findings):
                named[year].add(name)
    return {year: frozenset(names) for year, names in named.items()}


def without_duplicates(
    frame: pd.DataFrame, year: str, named: Iterable[str], findings: list[Finding]
) -> pd.DataFrame:
    """Return the rows of a year's table that no list names, and report how many were left out."""
    names = frozenset(named)
    identifiers = frame["image"].map(lambda name: PurePosixPath(name).stem.lower())
    kept = frame[~identifiers.isin(names)]
    counts = f"ISIC {year}: {len(frame) - len(kept):,} of {len(frame):,}, {len(kept):,} remain"
    findings.append(Finding("note", "duplicates were left out", counts))
    absent = len(names - set(identifiers))
    if absent:
        problem = "images of the duplicate lists are not among the images"
        findings.append(Finding("warning", problem, f"ISIC {year}: {absent:,} of {len(names):,}"))
    return kept


def _lines(path: Path, findings: list[Finding]) -> list[tuple[str, str]]:
    """Year and lower-case id of each training image that a list names."""
    named = []
    for number, text in enumerate(read(path).decode(errors="replace").splitlines(), 1):
        line = _LINE.search(text.strip().replace("\\", "/"))
        if line is None:
            if text.strip():
                findings.append(Finding("warning", "line is no path", text, str(path), number))
        elif line["part"] == "train":
            name = line["name"].lower()
            if line["folder"].endswith("downsampled") and not name.endswith(_DOWNSAMPLED):
                name += _DOWNSAMPLED
            named.append((line["year"], name))
    return named
