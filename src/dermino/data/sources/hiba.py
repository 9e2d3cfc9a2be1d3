"""HIBA: dermoscopic and clinical images from Hospital Italiano de Buenos Aires."""

from __future__ import annotations

from typing import ClassVar

from dermino.data.source import SOURCES
from dermino.data.source_info import SourceInfo
from dermino.data.sources.isic_archive import TELLS, IsicArchive


@SOURCES.register("hiba")
class Hiba(IsicArchive):
    """HIBA skin lesions 2019 to 2022, exported from the ISIC archive.

    An image carries all levels of its diagnosis, benign or malignant last. Several pictures show
    one lesion, some dermoscopic and some clinical: split by ``patient_id``.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="hiba",
        title="HIBA skin lesions",
        licence="of each image: column copyright_license",
        citation="Ricci Lara et al. A dataset of skin lesion images collected in Argentina for "
        "the evaluation of AI tools in this population. Sci Data 10, 712 (2023).",
        url="https://doi.org/10.34970/587329",
    )
    used_for: ClassVar[tuple[str, ...]] = ("classification",)
    tells: ClassVar[tuple[str, ...]] = (*TELLS, "metadata*.csv: attribution=*Buenos Aires*")
    expected_images: ClassVar[int | None] = 1_616
