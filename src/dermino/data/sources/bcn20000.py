"""BCN20000: dermoscopic images in the wild from Hospital Clinic de Barcelona."""

from __future__ import annotations

from typing import ClassVar

import pandas as pd

from dermino.data.challenge import Challenge, Part
from dermino.data.source import SOURCES
from dermino.data.source_info import SourceInfo
from dermino.data.sources.isic2019 import DIAGNOSES


def _part(split: str) -> Part:
    folder = f"bcn_20k_{split}"
    return Part(split, images=(folder,), tables=(f"{folder}.csv",))


@SOURCES.register("bcn20000")
class Bcn20000(Challenge):
    """BCN20000 as figshare ships it; the ISIC archive's export of it is read by ``isic-archive``.

    12,413 of its images are also in ISIC 2019. Several pictures show one lesion: split by
    ``lesion_id``. Diagnoses outside the eight (the test set's out-of-distribution images) leave an
    image unlabelled and stay in the column ``diagnosis``. The folds of the authors' script are
    not part of the download.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="bcn20000",
        title="BCN20000",
        licence="CC BY-NC 4.0",
        citation="Hernandez-Perez et al. BCN20000: dermoscopic lesions in the wild. "
        "Sci Data 11, 641 (2024).",
        url="https://doi.org/10.6084/m9.figshare.24140028",
        vocabulary=tuple(DIAGNOSES.values()),
    )
    layout: ClassVar[str] = "bcn_20k_{train,test}.csv with folders bcn_20k_{train,test}"
    tells: ClassVar[tuple[str, ...]] = ("bcn_20k_train.csv | bcn_20k_test.csv",)
    expected_images: ClassVar[int | None] = 18_946
    parts: ClassVar[tuple[Part, ...]] = (_part("train"), _part("test"))

    def labels(self, frame: pd.DataFrame) -> list[list[str]]:
        """The diagnosis, written out."""
        codes = frame.get("diagnosis", pd.Series(None, frame.index))
        return [[DIAGNOSES[code]] if code in DIAGNOSES else [] for code in codes]
