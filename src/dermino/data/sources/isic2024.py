"""ISIC 2024 (SLICE-3D): lesions cut out of three-dimensional total-body photographs."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar

import pandas as pd

from dermino.data.challenge import Challenge, Part, levels, observed
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.levels import observed_parents
from dermino.data.source import SOURCES
from dermino.data.source_info import SourceInfo

_LEVELS = ("iddx_1", "iddx_2", "iddx_3", "iddx_4", "iddx_5")
_MEASURE = re.compile(r"tbp_lv_(?!location).*|.*_mm")
_TARGETS = {"0": "Benign", "1": "Malignant"}


def _part(split: str, expected: int | None = None) -> Part:
    # Kaggle ships the training images twice: as files, and in HDF5.
    return Part(
        split,
        images=(f"{split}-image/image", f"{split}-image"),
        tables=(f"{split}-metadata.csv",),
        expected=expected,
    )


@SOURCES.register("isic2024")
class Isic2024(Challenge):
    """ISIC 2024 as Kaggle ships it: HDF5 or files, and the metadata with the lesions' measures.

    An image carries all levels of its diagnosis, the finest first and benign, indeterminate or
    malignant last; where the table has only ``target``, that. 393 of 401,059 are malignant.
    1,042 patients with many lesions each: split by ``patient_id``. The thickness of melanomas is
    the column ``mel_thick_mm``. ``tbp_lv_dnn_lesion_confidence`` and the ``iddx`` and ``mel``
    columns tell the answer: no features.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="isic2024",
        title="ISIC 2024 (SLICE-3D)",
        licence="CC BY-NC 4.0; of each image: column copyright_license",
        citation="Kurtansky et al. The SLICE-3D dataset: 400,000 skin lesion image crops extracted "
        "from 3D TBP for skin cancer detection. Sci Data 11, 884 (2024).",
        url="https://www.kaggle.com/competitions/isic-2024-challenge",
        vocabulary=("Benign", "Indeterminate", "Malignant"),
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining", "classification", "screening")
    layout: ClassVar[str] = (
        "train-metadata.csv with train-image.hdf5 or train-image/image/<isic_id>.jpg; the same "
        "for test"
    )
    tells: ClassVar[tuple[str, ...]] = ("*-metadata.csv: isic_id, tbp_tile_type",)
    expected_images: ClassVar[int | None] = 401_059
    modality: ClassVar[str] = "tbp"
    parts: ClassVar[tuple[Part, ...]] = (_part("train", 401_059), _part("test"))

    def table(
        self, index: FileIndex, parts: Iterable[Part], findings: list[Finding]
    ) -> pd.DataFrame:
        """Return one row per image, with the lesion's measures as numbers."""
        frame = super().table(index, parts, findings)
        measures = [name for name in frame.columns if _MEASURE.fullmatch(name)]
        frame[measures] = frame[measures].apply(pd.to_numeric, errors="coerce")
        return frame

    def labels(self, frame: pd.DataFrame) -> list[list[str]]:
        """All levels of the diagnosis, else benign or malignant."""
        targets = frame.get("target", pd.Series(None, frame.index))
        known = [[_TARGETS[target]] if target in _TARGETS else [] for target in targets]
        return [
            names or target for names, target in zip(levels(frame, _LEVELS), known, strict=True)
        ]

    def info_of(self, frame: pd.DataFrame) -> SourceInfo:
        """The finer diagnoses are those that occur."""
        names = dict.fromkeys([*self.info.vocabulary, *observed(frame["labels"])])
        parents = observed_parents(frame, _LEVELS)
        return replace(self.info, vocabulary=tuple(names), parents=parents)
