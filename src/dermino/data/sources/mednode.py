"""MED-NODE: macroscopic photographs of melanomas and naevi."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from dermino.data.class_folders import read_class_folders
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo


@SOURCES.register("med-node")
class MedNode:
    """MED-NODE as the University of Groningen ships it: two class folders and no table."""

    info: ClassVar[SourceInfo] = SourceInfo(
        name="med-node",
        title="MED-NODE",
        licence="public download; terms not stated",
        citation="Giotis et al. MED-NODE: a computer-assisted melanoma diagnosis system using "
        "non-dermoscopic images. Expert Syst. Appl. 42, 6578-6585 (2015).",
        url="https://www.cs.rug.nl/~imaging/databases/melanoma_naevi/",
        vocabulary=("melanoma", "naevus"),
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining", "classification")
    layout: ClassVar[str] = "melanoma/*.jpg and naevus/*.jpg at any depth"
    tells: ClassVar[tuple[str, ...]] = ("melanoma/*.jpg", "naevus/*.jpg")
    expected_images: ClassVar[int | None] = 170

    def read(self, path: Path) -> Imported:
        """Read the folder at ``path``."""
        index = FileIndex(path)
        findings: list[Finding] = []
        frame = read_class_folders(index, self.info.vocabulary, findings)
        frame["modality"] = "clinical"
        return assemble(
            frame, index, self.info, findings=findings, expected_images=self.expected_images
        )
