"""PAD-UFES-20: smartphone images of skin lesions with clinical history."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from dermino.data.columns import require_columns, typed_columns, written_out
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.recognition import recognised_table
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo
from dermino.data.text_table import read_text_table

DIAGNOSES = {
    "BCC": "basal cell carcinoma",
    "ACK": "actinic keratosis",
    "NEV": "nevus",
    "SEK": "seborrheic keratosis",
    "SCC": "squamous cell carcinoma",
    "MEL": "melanoma",
}


@SOURCES.register("pad-ufes-20")
class PadUfes20:
    """PAD-UFES-20 as Kaggle ships it, or Mendeley Data once its outer archive is unpacked.

    All 26 columns are kept; ``gender``, ``region`` and ``fitspatrick`` (so spelt) become
    ``sex``, ``site`` and ``skin_type``. 804 rows have no clinical history.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="pad-ufes-20",
        title="PAD-UFES-20",
        licence="CC BY 4.0",
        citation="Pacheco et al. PAD-UFES-20. Data in Brief 32, 106221 (2020).",
        url="https://doi.org/10.17632/zr7vgbcyr2.1",
        vocabulary=tuple(DIAGNOSES.values()),
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining", "classification")
    layout: ClassVar[str] = "metadata.csv and PAT_*.png at any depth, also in imgs_part_*.zip"
    tells: ClassVar[tuple[str, ...]] = ("*.csv: img_id, fitspatrick",)
    expected_images: ClassVar[int | None] = 2_298

    def read(self, path: Path, keep_missing: bool = False) -> Imported:
        """Read the folder at ``path``; ``keep_missing`` keeps rows whose image is absent."""
        index = FileIndex(path)
        metadata = recognised_table(index, self.tells, "metadata.csv")
        findings: list[Finding] = []
        frame = read_text_table(metadata, findings)
        require_columns(frame, ("img_id", "diagnostic", "patient_id", "lesion_id"), metadata)
        frame = frame.rename(
            columns={
                "img_id": "image",
                "gender": "sex",
                "region": "site",
                "fitspatrick": "skin_type",
            }
        )
        frame["labels"] = written_out(frame["diagnostic"], DIAGNOSES, metadata, findings)
        frame = typed_columns(frame, metadata, findings)
        if "site" in frame.columns:
            frame["site"] = frame["site"].str.lower()
        frame["modality"] = "clinical"
        return assemble(
            frame,
            index,
            self.info,
            findings=findings,
            expected_images=self.expected_images,
            keep_missing=keep_missing,
        )
