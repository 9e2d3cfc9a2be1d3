"""LESION130K: pictures of lesions found on the web, as crops."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import ClassVar

import pandas as pd

from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.lesion_list import read_lesion_list
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo
from dermino.errors import UserError

_NUMBER = re.compile(r"\d{5,}(?!\d)")


@SOURCES.register("lesion130k")
class Lesion130k:
    """The crops that ``dermino data download`` or the publisher's script has made.

    Pictures whose name begins with the number of a lesion are read, wherever they lie. They are
    unlabelled, as in the paper: the class in the list is a detector's and is kept as
    ``lesion_class``, with ``url``, where ``LESION130k.csv`` lies among the files.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="lesion130k",
        title="LESION130K",
        licence="MIT for the list; the images are their owners'",
        citation="Cho et al. Generation of a melanoma and nevus data set from unstandardized "
        "clinical photographs on the internet. JAMA Dermatol. 159, 1223-1231 (2023).",
        url="https://github.com/whria78/can",
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining",)
    layout: ClassVar[str] = "<id>_<class>.png or <id>.jpg at any depth; LESION130k.csv if wanted"
    tells: ClassVar[tuple[str, ...]] = ("LESION130k*.csv",)
    expected_images: ClassVar[int | None] = 131_253

    def read(self, path: Path) -> Imported:
        """Read the folder at ``path``."""
        index = FileIndex(path)
        findings: list[Finding] = []
        stems = {file: PurePosixPath(file).stem for file in index.images}
        numbers = {file: _NUMBER.match(stem) for file, stem in stems.items()}
        crops = [(file, match.group()) for file, match in numbers.items() if match]
        if not crops:
            raise UserError(
                f"No picture in '{path}' or below it is called by the number of a lesion.",
                "Fetch them first: dermino data download lesion130k --out FOLDER",
            )
        frame = pd.DataFrame(crops, columns=["image", "lesion_number"])
        lists = index.find("LESION130k*.csv")
        if lists:
            known = read_lesion_list(index.root / lists[0], findings)
            frame = _add_list(frame, known, stems)
            absent = len(known) - int(frame["url"].notna().sum())
            if absent:
                counts = f"{absent:,} of {len(known):,}"
                findings.append(Finding("note", "lesions of the list have no picture", counts))
        frame["modality"] = "clinical"
        return assemble(
            frame, index, self.info, findings=findings, expected_images=self.expected_images
        )


def _add_list(frame: pd.DataFrame, known: pd.DataFrame, stems: dict[str, str]) -> pd.DataFrame:
    """Add the list's class and address; a number can recur with another class."""
    rows: dict[str, tuple[str, str]] = {}
    for number, name, url in known[["id", "lesion_class", "url"]].itertuples(index=False):
        rows.setdefault(number, (name, url))
        rows.setdefault(f"{number}_{name}", (name, url))
    pairs = zip(frame["image"], frame["lesion_number"], strict=True)
    found = [rows.get(stems[image], rows.get(number)) for image, number in pairs]
    frame["lesion_class"] = [row and row[0] for row in found]
    frame["url"] = [row and row[1] for row in found]
    return frame
