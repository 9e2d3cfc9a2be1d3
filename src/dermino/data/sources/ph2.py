"""PH2: dermoscopic images of naevi and melanomas with lesion masks and dermoscopic criteria."""

from __future__ import annotations

import re
from pathlib import Path
from typing import ClassVar

import pandas as pd

from dermino.data.columns import require_columns, written_out
from dermino.data.excel_table import read_excel_table
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.reference import read
from dermino.data.source import SOURCES, Imported, add_masks, assemble
from dermino.data.source_info import SourceInfo

DIAGNOSES = {"0": "common nevus", "1": "atypical nevus", "2": "melanoma"}
_COLORS = ("white", "red", "light-brown", "dark-brown", "blue-gray", "black")
_COLUMNS = (
    "image",
    "histological_diagnosis",
    "clinical_diagnosis",
    "asymmetry",
    "pigment_network",
    "dots_globules",
    "streaks",
    "regression_areas",
    "blue_whitish_veil",
    "colors",
)


@SOURCES.register("ph2")
class Ph2:
    """PH2 as the ADDI project ships it: ``PH2_dataset.txt``, or the workbook without it.

    The label is the clinical diagnosis. Histology, where it was done, and the criteria are
    columns with the publisher's codes; ``colors`` are written out. Of the masks the lesion's is
    used, not those of the colours.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="ph2",
        title="PH2",
        licence="free for research and benchmarking after registration",
        citation="Mendonça et al. PH2: a dermoscopic image database for research and "
        "benchmarking. EMBC 2013.",
        url="https://www.fc.up.pt/addi/ph2%20database.html",
        vocabulary=tuple(DIAGNOSES.values()),
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining", "classification", "segmentation")
    layout: ClassVar[str] = "PH2_dataset.txt or .xlsx, IMD*.bmp and IMD*_lesion.bmp at any depth"
    tells: ClassVar[tuple[str, ...]] = ("PH2_dataset.txt | PH2_dataset.xlsx",)
    expected_images: ClassVar[int | None] = 200

    def read(self, path: Path, keep_missing: bool = False) -> Imported:
        """Read the folder at ``path``; ``keep_missing`` keeps rows whose image is absent."""
        index = FileIndex(path)
        findings: list[Finding] = []
        names = ("PH2_dataset.txt", "PH2_dataset.xlsx")
        has_text = bool(index.find(names[0]))
        metadata = index.one(*names[:1] if has_text else names)
        frame = (_read_text if has_text else _read_workbook)(metadata, findings)
        codes = frame["clinical_diagnosis"]
        frame["labels"] = written_out(codes, DIAGNOSES, metadata, findings)
        frame["modality"] = "dermoscopic"
        frame = add_masks(frame, index, "_lesion")
        frame["image"] += ".bmp"
        return assemble(
            frame,
            index,
            self.info,
            findings=findings,
            expected_images=self.expected_images,
            keep_missing=keep_missing,
        )


def _read_text(path: Path, findings: list[Finding]) -> pd.DataFrame:
    """Read the table drawn with bars; legends and headings stand around it."""
    rows: dict[int, list[str | None]] = {}
    lines = read(path).decode("latin-1").splitlines()
    for number, line in enumerate(lines, start=1):
        if not line.strip().startswith("||") or "IMD" not in line:
            continue
        fields = [field.strip() for field in re.split(r"\|+", line.strip())[1:]]
        if len(fields) == len(_COLUMNS) + 1 and not fields[-1]:
            fields.pop()
        if len(fields) == len(_COLUMNS):
            rows[number] = [field or None for field in fields]
        else:
            detail = f"{len(fields)} fields, not {len(_COLUMNS)}"
            findings.append(Finding("error", "broken row", detail, str(path), number))
    frame = pd.DataFrame.from_dict(rows, orient="index", columns=list(_COLUMNS), dtype=object)
    frame["colors"] = [_color_names(numbers) for numbers in frame["colors"]]
    return frame


def _read_workbook(path: Path, findings: list[Finding]) -> pd.DataFrame:
    """Read the workbook, where an X marks diagnosis and colours."""
    table = read_excel_table(path, header="Image Name")
    table.columns = pd.Index([re.sub(r"\W+", "_", str(name)).lower() for name in table.columns])
    diagnoses = [name.replace(" ", "_") for name in DIAGNOSES.values()]
    colors = [name.replace("-", "_") for name in _COLORS]
    table = table.rename(columns={"image_name": "image"})
    derived = {"clinical_diagnosis", "colors"}
    kept = [name for name in _COLUMNS if name not in derived]
    require_columns(table, [*kept, *diagnoses, *colors], path)
    frame = table[kept].copy()
    marks = table[[*diagnoses, *colors]].notna()
    frame["clinical_diagnosis"] = [
        " ".join(code for code, marked in zip(DIAGNOSES, row, strict=True) if marked) or None
        for row in marks[diagnoses].itertuples(index=False)
    ]
    frame["colors"] = [
        ", ".join(name for name, marked in zip(_COLORS, row, strict=True) if marked) or None
        for row in marks[colors].itertuples(index=False)
    ]
    return frame[frame["image"].str.match(r"IMD\d+", na=False)]


def _color_names(numbers: str | None) -> str | None:
    places = [int(number) - 1 for number in re.findall(r"[1-6]", numbers or "")]
    return ", ".join(_COLORS[place] for place in places) or None
