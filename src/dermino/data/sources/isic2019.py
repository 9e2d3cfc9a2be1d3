"""ISIC 2019 challenge: eight diagnoses from three centres."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from dermino.data.challenge import Challenge, Part, one_hot
from dermino.data.source import SOURCES
from dermino.data.source_info import SourceInfo

DIAGNOSES = {
    "MEL": "melanoma",
    "NV": "melanocytic nevus",
    "BCC": "basal cell carcinoma",
    "AK": "actinic keratosis",
    "BKL": "benign keratosis-like lesion",
    "DF": "dermatofibroma",
    "VASC": "vascular lesion",
    "SCC": "squamous cell carcinoma",
}


def _part(split: str, name: str, expected: int) -> Part:
    year = f"ISIC_2019_{name}"
    return Part(
        split,
        images=(f"{year}_Input",),
        tables=(f"{year}_GroundTruth.csv", f"{year}_Metadata.csv"),
        expected=expected,
    )


@SOURCES.register("isic2019")
class Isic2019(Challenge):
    """The ISIC 2019 archives, unpacked side by side.

    HAM10000, most of BCN20000 and earlier challenges are in it: split by ``lesion_id``, whose
    prefix names the centre. ``UNK`` (none of the eight) leaves an image unlabelled, and so does
    a test set without its ground truth. 2,074 images keep their suffix ``_downsampled``.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="isic2019",
        title="ISIC 2019",
        licence="CC BY-NC 4.0",
        citation="Tschandl et al. Sci Data 5, 180161 (2018); Codella et al. arXiv:1710.05006; "
        "Hernandez-Perez et al. BCN20000. Sci Data 11, 641 (2024).",
        url="https://challenge.isic-archive.com/data/#2019",
        vocabulary=tuple(DIAGNOSES.values()),
    )
    layout: ClassVar[str] = (
        "ISIC_2019_{Training,Test}_Input with _GroundTruth.csv and _Metadata.csv"
    )
    tells: ClassVar[tuple[str, ...]] = ("ISIC_2019_*_Input/* | ISIC_2019_*_GroundTruth.csv",)
    expected_images: ClassVar[int | None] = 33_569
    parts: ClassVar[tuple[Part, ...]] = (
        _part("train", "Training", 25_331),
        _part("test", "Test", 8_238),
    )

    def labels(self, frame: pd.DataFrame) -> list[list[str]]:
        """The diagnosis with a 1."""
        return one_hot(frame, DIAGNOSES)
