"""ISIC 2018 challenge, task 3: seven diagnoses; the training images are HAM10000."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from dermino.data.challenge import Challenge, Part, one_hot
from dermino.data.source import SOURCES
from dermino.data.source_info import SourceInfo
from dermino.data.sources.ham10000 import DIAGNOSES

_CODES = {code.upper(): name for code, name in DIAGNOSES.items()}


def _part(split: str, name: str, expected: int) -> Part:
    task = f"ISIC2018_Task3_{name}"
    return Part(
        split,
        images=(f"{task}_Input",),
        tables=(f"{task}_GroundTruth.csv", f"{task}_LesionGroupings.csv"),
        expected=expected,
    )


@SOURCES.register("isic2018")
class Isic2018(Challenge):
    """The ISIC 2018 archives of task 3 (diagnosis), unpacked side by side.

    Several pictures show one lesion: split the training images by ``lesion_id``, which comes from
    the lesion groupings. The labels are HAM10000's.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="isic2018",
        title="ISIC 2018, task 3",
        licence="CC BY-NC 4.0",
        citation="Codella et al. Skin lesion analysis toward melanoma detection 2018. "
        "arXiv:1902.03368. Tschandl et al. The HAM10000 dataset. Sci Data 5, 180161 (2018).",
        url="https://challenge.isic-archive.com/data/#2018",
        vocabulary=tuple(DIAGNOSES.values()),
    )
    layout: ClassVar[str] = (
        "ISIC2018_Task3_{Training,Validation,Test}_Input with _GroundTruth.csv and, if wanted, "
        "_LesionGroupings.csv"
    )
    # HAM10000's publisher ships the test part beside it.
    tells: ClassVar[tuple[str, ...]] = (
        "ISIC2018_Task3_Training_* | ISIC2018_Task3_Training_*/* | ISIC2018_Task3_Validation_*/*",
    )
    expected_images: ClassVar[int | None] = 11_720
    parts: ClassVar[tuple[Part, ...]] = (
        _part("train", "Training", 10_015),
        _part("val", "Validation", 193),
        _part("test", "Test", 1_512),
    )

    def labels(self, frame: pd.DataFrame) -> list[list[str]]:
        """The diagnosis with a 1."""
        return one_hot(frame, _CODES)
