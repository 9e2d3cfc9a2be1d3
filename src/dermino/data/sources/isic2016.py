"""ISIC 2016 challenge: benign or malignant, lesion masks."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from dermino.data.challenge import Challenge, Part
from dermino.data.source import SOURCES
from dermino.data.source_info import SourceInfo

# The training table has words, the test table numbers.
_LABELS = {
    "benign": "benign",
    "0": "benign",
    "0.0": "benign",
    "malignant": "malignant",
    "1": "malignant",
    "1.0": "malignant",
}


def _part(split: str, name: str, expected: int) -> Part:
    folders = [f"ISBI2016_ISIC_Part{number}_{name}" for number in ("3", "3B", "1")]
    return Part(
        split,
        images=tuple(f"{folder}_Data" for folder in folders),
        tables=(" | ".join(f"{folder}_GroundTruth.csv" for folder in folders[:2]),),
        masks=(f"{folders[2]}_GroundTruth", f"{folders[1]}_Data"),
        expected=expected,
    )


@SOURCES.register("isic2016")
class Isic2016(Challenge):
    """The ISIC 2016 archives of parts 1 (masks) and 3 (labels), or 3B (both), side by side.

    All parts have the same images. The publisher's tables have no header line; mirrors add one.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="isic2016",
        title="ISIC 2016",
        licence="CC0-1.0",
        citation="Gutman et al. Skin lesion analysis toward melanoma detection. ISBI 2016. "
        "arXiv:1605.01397.",
        url="https://challenge.isic-archive.com/data/#2016",
        vocabulary=("benign", "malignant"),
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining", "classification", "segmentation")
    layout: ClassVar[str] = (
        "ISBI2016_ISIC_Part{1,3,3B}_{Training,Test}_Data with _Part1_..._GroundTruth (masks) and "
        "_Part3_..._GroundTruth.csv"
    )
    tells: ClassVar[tuple[str, ...]] = (
        "ISBI2016_ISIC_Part*_Data/* | ISBI2016_ISIC_Part3*_GroundTruth.csv",
    )
    expected_images: ClassVar[int | None] = 1_279
    parts: ClassVar[tuple[Part, ...]] = (
        _part("train", "Training", 900),
        _part("test", "Test", 379),
    )

    def labels(self, frame: pd.DataFrame) -> list[list[str]]:
        """Benign or malignant."""
        truth = frame.get("label", pd.Series(None, frame.index))
        return [[_LABELS[text]] if text in _LABELS else [] for text in truth]
