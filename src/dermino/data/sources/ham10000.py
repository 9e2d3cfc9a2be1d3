"""HAM10000: dermoscopic images of pigmented lesions from four centres, with lesion masks."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pandas as pd

from dermino.data.columns import require_columns, typed_columns, written_out
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.source import SOURCES, Imported, add_masks, assemble
from dermino.data.source_info import SourceInfo
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
_SUFFIXES = (".csv", ".tab", ".tsv", ".txt")
_IMAGES, _TEST_IMAGES = 10_015, 1_511


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
    expected_images: ClassVar[int | None] = _IMAGES

    def read(self, path: Path, official_test: bool = False, keep_missing: bool = False) -> Imported:
        """Read the folder at ``path``.

        Parameters
        ----------
        path:
            The folder.
        official_test:
            Add the test images of ISIC 2018 task 3 that Dataverse ships beside, as ``split`` test;
            the 10,015 become ``train``.
        keep_missing:
            Keep rows whose image is absent.
        """
        index = FileIndex(path)
        findings: list[Finding] = []
        names = [f"HAM10000_metadata{suffix}" for suffix in ("", *_SUFFIXES)]
        frame = _read_table(index.one(*names), findings)
        if official_test:
            names = [f"ISIC2018_Task3_Test_GroundTruth{suffix}" for suffix in _SUFFIXES]
            test = _read_table(index.one(*names), findings)
            parts = [frame.assign(split="train"), test.assign(split="test")]
            frame = pd.concat(parts, ignore_index=True)
        frame["modality"] = "dermoscopic"
        frame = add_masks(frame, index, "_segmentation")
        frame["image"] += ".jpg"
        return assemble(
            frame,
            index,
            self.info,
            findings=findings,
            expected_images=_IMAGES + (_TEST_IMAGES if official_test else 0),
            keep_missing=keep_missing,
        )


def _read_table(path: Path, findings: list[Finding]) -> pd.DataFrame:
    frame = read_text_table(path, findings)
    require_columns(frame, ("image_id", "lesion_id", "dx"), path)
    frame = frame.rename(columns={"image_id": "image", "localization": "site", "dataset": "centre"})
    frame["labels"] = written_out(frame["dx"], DIAGNOSES, path, findings)
    return typed_columns(frame, path, findings)
