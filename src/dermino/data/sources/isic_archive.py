"""Any collection of the ISIC archive as its web page or command-line tool exports it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pandas as pd

from dermino.data.challenge import levels, observed, read_isic_table
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.levels import observed_parents
from dermino.data.recognition import recognised_table
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo

# Older exports have the second list; both from coarse to fine.
HIERARCHIES = (
    ("diagnosis_1", "diagnosis_2", "diagnosis_3", "diagnosis_4", "diagnosis_5"),
    ("benign_malignant", "diagnosis"),
)
_MODALITIES = {"dermoscopic": "dermoscopic", "clinical": "clinical", "tbp tile": "tbp"}
TELLS = ("metadata*.csv: isic_id",)


@SOURCES.register("isic-archive")
class IsicArchive:
    """``metadata.csv`` and ``<isic_id>.jpg``, as the ISIC archive exports a collection.

    An image carries all levels of its diagnosis, the finest first and benign, indeterminate or
    malignant last. Exports of different dates have different columns: all but ``isic_id`` may be
    absent, and all are kept, the licence of each image (``copyright_license``) too.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="isic-archive",
        title="A collection of the ISIC archive",
        licence="of each image: column copyright_license",
        url="https://gallery.isic-archive.com",
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining", "classification")
    layout: ClassVar[str] = "metadata.csv and ISIC_*.jpg at any depth"
    tells: ClassVar[tuple[str, ...]] = TELLS
    expected_images: ClassVar[int | None] = None

    def read(self, path: Path, name: str | None = None, keep_missing: bool = False) -> Imported:
        """Read the folder at ``path``.

        Parameters
        ----------
        path:
            The folder.
        name:
            What to call the dataset, such as the collection's name.
        keep_missing:
            Keep rows whose image is absent.
        """
        index = FileIndex(path)
        findings: list[Finding] = []
        frame = read_isic_table(recognised_table(index, self.tells, "metadata*.csv"), findings)
        hierarchy = next((names for names in HIERARCHIES if names[0] in frame.columns), ())
        frame["labels"] = levels(frame, hierarchy)
        frame["modality"] = modality(frame)
        frame["image"] += ".jpg"
        info = replace(
            self.info,
            name=name or self.info.name,
            vocabulary=observed(frame["labels"]),
            parents=observed_parents(frame, hierarchy),
        )
        return assemble(
            frame,
            index,
            info,
            findings=findings,
            expected_images=self.expected_images,
            keep_missing=keep_missing,
        )


def modality(frame: pd.DataFrame) -> pd.Series:
    """Return how each picture was taken, from ``image_type`` (``clinical: close-up``)."""
    kinds = frame.get("image_type", pd.Series(None, frame.index, dtype=object))
    return kinds.str.lower().str.partition(":")[0].str.strip().map(_MODALITIES)
