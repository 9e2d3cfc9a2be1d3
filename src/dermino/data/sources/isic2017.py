"""ISIC 2017 challenge: melanoma and seborrheic keratosis, lesion masks, official split."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from dermino.data.challenge import Challenge, Part, one_hot
from dermino.data.source import SOURCES
from dermino.data.source_info import SourceInfo

_DISEASES = {"MELANOMA": "melanoma", "SEBORRHEIC_KERATOSIS": "seborrheic keratosis"}
_NEITHER = "nevus"


def _part(split: str, name: str, expected: int) -> Part:
    return Part(
        split,
        images=(f"ISIC-2017_{name}_Data",),
        tables=(
            f"ISIC-2017_{name}_Part3_GroundTruth.csv",
            f"ISIC-2017_{name}_Data_metadata.csv",
        ),
        masks=(f"ISIC-2017_{name}_Part1_GroundTruth",),
        expected=expected,
    )


@SOURCES.register("isic2017")
class Isic2017(Challenge):
    """The ISIC 2017 archives of parts 1 and 3, unpacked side by side.

    Either part may be absent: without the ground truth of part 3 the images are unlabelled.
    An image that is neither melanoma nor seborrheic keratosis is a nevus.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="isic2017",
        title="ISIC 2017",
        licence="CC0-1.0",
        citation="Codella et al. Skin lesion analysis toward melanoma detection. ISBI 2018.",
        url="https://challenge.isic-archive.com/data/#2017",
        vocabulary=(*_DISEASES.values(), _NEITHER),
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining", "classification", "segmentation")
    layout: ClassVar[str] = (
        "ISIC-2017_{Training,Validation,Test_v2}_Data with _Part1_GroundTruth (masks) and "
        "_Part3_GroundTruth.csv"
    )
    tells: ClassVar[tuple[str, ...]] = ("ISIC-2017_*_Data/* | ISIC-2017_*_Part3_GroundTruth.csv",)
    expected_images: ClassVar[int | None] = 2_750
    parts: ClassVar[tuple[Part, ...]] = (
        _part("train", "Training", 2_000),
        _part("val", "Validation", 150),
        _part("test", "Test_v2", 600),
    )

    def labels(self, frame: pd.DataFrame) -> list[list[str]]:
        """The disease with a 1; a nevus where there are only zeros."""
        found = one_hot(frame, _DISEASES)
        known = frame.get("melanoma", pd.Series(None, frame.index)).notna()
        return [
            labels or ([_NEITHER] if truth else [])
            for labels, truth in zip(found, known, strict=True)
        ]
