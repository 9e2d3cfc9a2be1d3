"""MSKCC: images from Memorial Sloan Kettering Cancer Center."""

from __future__ import annotations

from typing import ClassVar

from dermino.data.source import SOURCES
from dermino.data.source_info import SourceInfo
from dermino.data.sources.isic_archive import TELLS, IsicArchive


@SOURCES.register("mskcc")
class Mskcc(IsicArchive):
    """The MSKCC collection, exported from the ISIC archive.

    An image carries all levels of its diagnosis, benign or malignant last. Split by
    ``patient_id`` where the export has it.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="mskcc",
        title="MSKCC",
        licence="of each image: column copyright_license",
        citation="Memorial Sloan Kettering Cancer Center, ISIC archive.",
        url="https://api.isic-archive.com/collections/163/",
    )
    used_for: ClassVar[tuple[str, ...]] = ("classification",)
    tells: ClassVar[tuple[str, ...]] = (*TELLS, "metadata*.csv: attribution=*Sloan*")
