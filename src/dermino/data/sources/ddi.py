"""DDI: biopsy-proven lesions photographed on light, brown and dark skin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pandas as pd

from dermino.data.columns import require_columns, written_out
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.levels import observed_parents
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo
from dermino.data.text_table import read_text_table

_OLDER_NAMES = {"malignancy(malig=1)": "malignant"}
_MALIGNANT = {"true": "malignant", "1": "malignant", "false": "benign", "0": "benign"}
_SKIN_TYPES = {"12": "I-II", "34": "III-IV", "56": "V-VI"}


@SOURCES.register("ddi")
class Ddi:
    """Diverse Dermatology Images as Stanford AIMI ships them.

    Every image carries its disease and ``benign`` or ``malignant``. The publisher gives the skin
    type in pairs: ``skin_tone`` is 12, 34 or 56, and ``skin_type_group`` writes it out.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="ddi",
        title="Diverse Dermatology Images",
        licence="Stanford University research use agreement, no redistribution",
        citation="Daneshjou et al. Disparities in dermatology AI performance on a diverse, curated "
        "clinical image set. Sci. Adv. 8, eabq6147 (2022).",
        url="https://ddi-dataset.github.io",
        vocabulary=("benign", "malignant"),
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining", "classification")
    layout: ClassVar[str] = "ddi_metadata.csv and 000001.png ... 000656.png at any depth"
    tells: ClassVar[tuple[str, ...]] = ("ddi_metadata.csv",)
    expected_images: ClassVar[int | None] = 656

    def read(self, path: Path, keep_missing: bool = False) -> Imported:
        """Read the folder at ``path``; ``keep_missing`` keeps rows whose image is absent."""
        index = FileIndex(path)
        metadata = index.one("ddi_metadata.csv")
        findings: list[Finding] = []
        frame = read_text_table(metadata, findings).rename(columns=_OLDER_NAMES)
        require_columns(frame, ("DDI_file", "skin_tone", "malignant", "disease"), metadata)
        # The first column numbers the rows and has no name.
        frame = frame.drop(columns="", errors="ignore").rename(columns={"DDI_file": "image"})
        flags = frame["malignant"].str.lower().str.removesuffix(".0")
        groups = written_out(flags, _MALIGNANT, metadata, findings)
        diseases = frame["disease"].map(lambda name: [name] if name else [])
        frame["labels"] = diseases + groups
        behaviour = frame.assign(behaviour=pd.Series(groups, frame.index).str[0])
        frame["skin_type_group"] = frame["skin_tone"].map(_SKIN_TYPES)
        frame["modality"] = "clinical"
        # The publisher names no other vocabulary than the values of the complete table.
        vocabulary = (*sorted(frame["disease"].dropna().unique()), *self.info.vocabulary)
        return assemble(
            frame,
            index,
            replace(
                self.info,
                vocabulary=vocabulary,
                parents=observed_parents(behaviour, ("behaviour", "disease")),
            ),
            findings=findings,
            expected_images=self.expected_images,
            keep_missing=keep_missing,
        )
