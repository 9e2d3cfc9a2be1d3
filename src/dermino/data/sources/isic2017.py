"""ISIC 2017 challenge: melanoma and seborrheic keratosis, lesion masks, official split."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import ClassVar

import pandas as pd

from dermino.data.columns import require_columns, typed
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.manifest import SourceInfo
from dermino.data.source import SOURCES, Imported, add_masks, assemble
from dermino.data.text_table import read_text_table

_PARTS = {"train": "training", "val": "validation", "test": "test"}
_DISEASES = {"melanoma": "melanoma", "seborrheic_keratosis": "seborrheic keratosis"}
_NEITHER = "nevus"


@SOURCES.register("isic2017")
class Isic2017:
    """The ISIC 2017 archives of parts 1 and 3, unpacked side by side.

    Either part may be absent: without the ground truth of part 3 the images are unlabelled.
    An image that is neither melanoma nor seborrheic keratosis is a nevus.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="isic2017",
        title="ISIC 2017",
        licence="CC0-1.0",
        citation="Codella et al. Skin lesion analysis toward melanoma detection. ISBI 2018.",
        url="https://challenge.isic-archive.com/data/#2017",
        vocabulary=(*_DISEASES.values(), _NEITHER),
    )
    used_for: ClassVar[tuple[str, ...]] = ("classification", "segmentation")
    layout: ClassVar[str] = (
        "ISIC-2017_{Training,Validation,Test_v2}_Data with _Part1_GroundTruth (masks) and "
        "_Part3_GroundTruth.csv"
    )
    tells: ClassVar[tuple[str, ...]] = ("ISIC-2017_*_Data/* | ISIC-2017_*_Part3_GroundTruth.csv",)
    expected_images: ClassVar[int | None] = 2_750

    def read(self, path: Path, keep_missing: bool = False) -> Imported:
        """Read the folder at ``path``; ``keep_missing`` keeps rows whose image is absent."""
        index = FileIndex(path)
        findings: list[Finding] = []
        parts = [_read_part(index, split, name, findings) for split, name in _PARTS.items()]
        frame = pd.concat(parts, ignore_index=True)
        if frame.empty:
            index.one("ISIC-2017_*_Part3_GroundTruth.csv")
        frame = _add_metadata(frame, index, findings)
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


def _read_part(index: FileIndex, split: str, name: str, findings: list[Finding]) -> pd.DataFrame:
    """Collect the images of one split, from its ground truth and from its folder."""
    labels: dict[str, list[str]] = {}
    for file in index.find(f"isic-2017_{name}*_part3_groundtruth.csv"):
        path = index.root / file
        table = read_text_table(path, findings)
        require_columns(table, ("image_id", *_DISEASES), path)
        for identifier, *flags in table[["image_id", *_DISEASES]].itertuples(index=False):
            named = zip(_DISEASES.values(), flags, strict=True)
            positive = [label for label, flag in named if flag in {"1", "1.0"}]
            labels[identifier] = positive or [_NEITHER]
    for file in index.images:
        place = PurePosixPath(file)
        in_part = any(
            folder.lower().startswith(f"isic-2017_{name}") and folder.lower().endswith("_data")
            for folder in place.parent.parts
        )
        if in_part and not place.stem.lower().endswith(("_superpixels", "_segmentation")):
            labels.setdefault(place.stem, [])
    return pd.DataFrame({"image": list(labels), "labels": list(labels.values()), "split": split})


def _add_metadata(frame: pd.DataFrame, index: FileIndex, findings: list[Finding]) -> pd.DataFrame:
    tables = []
    for file in index.find("isic-2017_*_data_metadata.csv"):
        path = index.root / file
        table = read_text_table(path, findings)
        require_columns(table, ("image_id", "age_approximate", "sex"), path)
        table["age"] = typed(table["age_approximate"], "age", path, findings)
        table["sex"] = typed(table["sex"], "sex", path, findings)
        tables.append(table.rename(columns={"image_id": "image"})[["image", "age", "sex"]])
    if not tables:
        return frame
    metadata = pd.concat(tables, ignore_index=True).drop_duplicates("image")
    return frame.merge(metadata, on="image", how="left")
