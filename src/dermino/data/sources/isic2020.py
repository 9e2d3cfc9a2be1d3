"""ISIC 2020 challenge: melanoma among all lesions of a patient."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pandas as pd

from dermino.data.challenge import Challenge, Part, levels
from dermino.data.columns import require_columns
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.levels import observed_parents
from dermino.data.source import SOURCES, Imported
from dermino.data.source_info import SourceInfo
from dermino.data.text_table import read_text_table

_DIAGNOSES = (
    "nevus",
    "melanoma",
    "seborrheic keratosis",
    "lentigo NOS",
    "lichenoid keratosis",
    "solar lentigo",
    "cafe-au-lait macule",
    "atypical melanocytic proliferation",
)
_PAIRS = "ISIC_2020_Training_Duplicates.csv"

# From coarse to fine.
_LEVELS = ("benign_malignant", "diagnosis")


@SOURCES.register("isic2020")
class Isic2020(Challenge):
    """The ISIC 2020 archives, or Kaggle's copy (``train.csv``, ``jpeg/train``).

    Each image carries benign or malignant and, where it is known, its diagnosis. 2,056 patients
    with many lesions each: split by ``patient_id``. The test set is unlabelled.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="isic2020",
        title="ISIC 2020",
        licence="CC BY-NC 4.0",
        citation="Rotemberg et al. A patient-centric dataset of images and metadata for "
        "identifying melanomas using clinical context. Sci Data 8, 34 (2021).",
        url="https://challenge.isic-archive.com/data/#2020",
        vocabulary=(*_DIAGNOSES, "benign", "malignant"),
    )
    layout: ClassVar[str] = (
        "ISIC_2020_Training_GroundTruth[_v2].csv and ISIC_2020_Test_Metadata.csv (train.csv and "
        "test.csv of Kaggle) with ISIC_2020_{Training,Test}_JPEG (jpeg/train, jpeg/test)"
    )
    tells: ClassVar[tuple[str, ...]] = (
        "ISIC_2020_Training_GroundTruth*.csv | ISIC_2020_*_JPEG*/* | ISIC_2020_Test_Input/* "
        "| train.csv: image_name, patient_id, benign_malignant",
    )
    expected_images: ClassVar[int | None] = 44_108
    parts: ClassVar[tuple[Part, ...]] = (
        Part(
            "train",
            images=(
                "ISIC_2020_Training_JPEG/train",
                "ISIC_2020_Training_JPEG",
                "ISIC_2020_Training_Input",
                "jpeg/train",
            ),
            tables=(
                "ISIC_2020_Training_GroundTruth_v2.csv | ISIC_2020_Training_GroundTruth.csv "
                "| train.csv",
            ),
            expected=33_126,
        ),
        Part(
            "test",
            images=(
                "ISIC_2020_Test_Input",
                "ISIC_2020_Test_JPEG/ISIC_2020_Test_Input",
                "ISIC_2020_Test_JPEG/test",
                "ISIC_2020_Test_JPEG",
                "jpeg/test",
            ),
            tables=("ISIC_2020_Test_Metadata.csv | test.csv",),
            expected=10_982,
        ),
    )

    def read(
        self, path: Path, keep_missing: bool = False, drop_duplicates: bool = False
    ) -> Imported:
        """Read the folder at ``path``.

        Parameters
        ----------
        path:
            The folder.
        keep_missing:
            Keep rows whose image is absent.
        drop_duplicates:
            Leave out the second image of each pair in ``ISIC_2020_Training_Duplicates.csv``.
            Otherwise its column ``duplicate_of`` names the first.
        """
        imported = super().read(path, keep_missing)
        if not drop_duplicates:
            return imported
        kept = [first is None for first in imported.manifest.column("duplicate_of")]
        note = Finding("note", "duplicates were left out", f"{kept.count(False):,} images")
        return Imported(imported.manifest.select(kept), [*imported.findings, note])

    def table(
        self, index: FileIndex, parts: Iterable[Part], findings: list[Finding]
    ) -> pd.DataFrame:
        """Return one row per image, with the pairs of duplicates where their table is there."""
        frame = super().table(index, parts, findings)
        for file in index.find(_PAIRS)[:1]:
            pairs = read_text_table(index.root / file, findings)
            require_columns(pairs, ("image_name_1", "image_name_2"), index.root / file)
            first_of = dict(zip(pairs["image_name_2"], pairs["image_name_1"], strict=True))
            frame["duplicate_of"] = [first_of.get(Path(name).stem) for name in frame["image"]]
        return frame

    def info_of(self, frame: pd.DataFrame) -> SourceInfo:
        """Say which diagnoses are benign and which malignant."""
        known = frame[frame["diagnosis"] != "unknown"] if "diagnosis" in frame.columns else frame
        return replace(self.info, parents=observed_parents(known, _LEVELS))

    def labels(self, frame: pd.DataFrame) -> list[list[str]]:
        """The diagnosis, where it is known, and benign or malignant."""
        found = levels(frame, _LEVELS)
        return [[name for name in names if name != "unknown"] for names in found]
