"""NCI's Moles to Melanoma: lesions photographed over up to thirty years, each picture described."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from dermino.data.columns import require_columns, typed_columns, written_out
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo
from dermino.data.text_table import read_text_table

KINDS = {
    "mole": "common acquired nevus",
    "dysplasticnevi": "dysplastic nevus",
    "melanoma": "melanoma",
}


@SOURCES.register("nci-moles")
class NciMoles:
    """``captions.csv`` and the pictures of NCI's pages "Moles to Melanoma".

    ``lesion_id`` is the case; the label is what the lesion turned out to be, so early pictures of
    a melanoma carry it too, and the publisher's wording is kept in ``diagnosis``. ``order`` counts
    a case's pictures from 0: the pages give no dates, and some neighbours are an overview and a
    close-up of one day, as their captions say.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="nci-moles",
        title="Moles to Melanoma",
        licence="public domain (US National Cancer Institute)",
        citation="National Cancer Institute. Moles to Melanoma: Recognizing the ABCDE Features.",
        url="https://moles-melanoma-tool.cancer.gov",
        vocabulary=tuple(KINDS.values()),
    )
    used_for: ClassVar[tuple[str, ...]] = ("captions", "change")
    layout: ClassVar[str] = "captions.csv and images/{N,DN,M}*.jpg"
    tells: ClassVar[tuple[str, ...]] = ("captions.csv: case, type, order, caption, abcde_evolving",)
    expected_images: ClassVar[int | None] = 122

    def read(self, path: Path, keep_missing: bool = False) -> Imported:
        """Read the folder at ``path``; ``keep_missing`` keeps rows whose image is absent."""
        index = FileIndex(path)
        metadata = index.one("captions.csv")
        findings: list[Finding] = []
        frame = read_text_table(metadata, findings)
        require_columns(frame, ("case", "type", "order", "caption", "image"), metadata)
        frame["lesion_id"] = frame["case"].str.partition(":")[0]
        frame["labels"] = written_out(frame["type"], KINDS, metadata, findings)
        frame["modality"] = "clinical"
        frame = typed_columns(frame, metadata, findings)
        return assemble(
            frame,
            index,
            self.info,
            findings=findings,
            expected_images=self.expected_images,
            keep_missing=keep_missing,
        )
