"""ISIC 2018 challenge, task 1: lesion masks."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from dermino.data.challenge import Challenge, Part
from dermino.data.source import SOURCES
from dermino.data.source_info import SourceInfo


def _part(split: str, name: str, expected: int) -> Part:
    return Part(
        split,
        images=(f"ISIC2018_Task1-2_{name}_Input",),
        masks=(f"ISIC2018_Task1_{name}_GroundTruth",),
        expected=expected,
    )


@SOURCES.register("isic2018-segmentation")
class Isic2018Segmentation(Challenge):
    """The ISIC 2018 archives of task 1 (lesion boundaries), unpacked side by side.

    No labels are published. Older copies have no masks for validation and test. Most training
    images of ISIC 2016 and 2017 are among these.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="isic2018-segmentation",
        title="ISIC 2018, task 1",
        licence="CC BY-NC 4.0",
        citation="Codella et al. Skin lesion analysis toward melanoma detection 2018. "
        "arXiv:1902.03368.",
        url="https://challenge.isic-archive.com/data/#2018",
    )
    used_for: ClassVar[tuple[str, ...]] = ("segmentation",)
    layout: ClassVar[str] = (
        "ISIC2018_Task1-2_{Training,Validation,Test}_Input with ISIC2018_Task1_..._GroundTruth"
    )
    tells: ClassVar[tuple[str, ...]] = ("ISIC2018_Task1-2_*_Input/*",)
    expected_images: ClassVar[int | None] = 3_694
    parts: ClassVar[tuple[Part, ...]] = (
        _part("train", "Training", 2_594),
        _part("val", "Validation", 100),
        _part("test", "Test", 1_000),
    )

    def labels(self, frame: pd.DataFrame) -> list[list[str]]:
        """None."""
        return [[] for _ in range(len(frame))]
