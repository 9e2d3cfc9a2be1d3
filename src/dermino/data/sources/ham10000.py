"""HAM10000: dermoscopic images of pigmented lesions from four centres, with lesion masks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from dermino.data.columns import require_columns, typed_columns, written_out
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.manifest import SourceInfo
from dermino.data.source import SOURCES, Imported, add_masks, assemble
from dermino.data.text_table import read_text_table

DIAGNOSES = {
    "nv": "melanocytic nevus",
    "mel": "melanoma",
    "bkl": "benign keratosis-like lesion",
    "bcc": "basal cell carcinoma",
    "akiec": "actinic keratosis or intraepithelial carcinoma",
    "vasc": "vascular lesion",
    "df": "dermatofibroma",
}


@SOURCES.register("ham10000")
class Ham10000:
    """HAM10000 as Harvard Dataverse (tab-separated metadata) or Kaggle (CSV) ship it.

    The publisher's column ``dataset`` becomes ``centre``; its code ``dx`` is kept beside the
    label written out. Several pictures show one lesion: split by ``lesion_id``.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="ham10000",
        title="HAM10000",
        licence="CC BY-NC 4.0",
        citation="Tschandl, Rosendahl, Kittler. The HAM10000 dataset. Sci Data 5, 180161 (2018).",
        url="https://doi.org/10.7910/DVN/DBW86T",
        vocabulary=tuple(DIAGNOSES.values()),
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining", "classification", "segmentation")
    layout: ClassVar[str] = (
        "HAM10000_metadata[.csv|.tab], ISIC_*.jpg and, if wanted, *_segmentation.png at any depth"
    )
    tells: ClassVar[tuple[str, ...]] = ("HAM10000_metadata*",)
    expected_images: ClassVar[int | None] = 10_015

    def read(self, path: Path, keep_missing: bool = False) -> Imported:
        """Read the folder at ``path``; ``keep_missing`` keeps rows whose image is absent."""
        index = FileIndex(path)
        names = [f"HAM10000_metadata{suffix}" for suffix in ("", ".csv", ".tab", ".tsv", ".txt")]
        metadata = index.one(*names)
        findings: list[Finding] = []
        frame = read_text_table(metadata, findings)
        require_columns(frame, ("image_id", "lesion_id", "dx"), metadata)
        frame = frame.rename(
            columns={"image_id": "image", "localization": "site", "dataset": "centre"}
        )
        frame["labels"] = written_out(frame["dx"], DIAGNOSES, metadata, findings)
        frame = typed_columns(frame, metadata, findings)
        frame["modality"] = "dermoscopic"
        frame = add_masks(frame, index, "_segmentation")
        frame["image"] += ".jpg"
        return assemble(
            frame,
            index,
            self.info,
            findings=findings,
            expected_images=self.expected_images,
            keep_missing=keep_missing,
        )
