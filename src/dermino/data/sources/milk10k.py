"""MILK10k: each lesion in a dermoscopic and a clinical picture, eleven diagnoses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pandas as pd

from dermino.data.challenge import differing_counts, levels, observed, one_hot, read_isic_table
from dermino.data.columns import require_columns
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.levels import observed_parents
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo
from dermino.data.sources.isic_archive import modality
from dermino.data.text_table import read_text_table

_DIAGNOSES = {
    "AKIEC": "actinic keratosis or intraepidermal carcinoma",
    "BCC": "basal cell carcinoma",
    "BEN_OTH": "other benign proliferation",
    "BKL": "benign keratinocytic lesion",
    "DF": "dermatofibroma",
    "INF": "inflammatory or infectious condition",
    "MAL_OTH": "other malignant proliferation",
    "MEL": "melanoma",
    "NV": "melanocytic nevus",
    "SCCKA": "squamous cell carcinoma or keratoacanthoma",
    "VASC": "vascular lesion or haemorrhage",
}
_TRAINING_IMAGES = 10_480
_PARTS = {"train": "Training", "test": "Test"}


@SOURCES.register("milk10k")
class Milk10k:
    """MILK10k as the ISIC challenge ships it; ground truth is by lesion, metadata by image.

    Both pictures of a lesion carry its diagnosis, after the finer one of the supplement where it
    is there (``diagnosis_full``): split by ``lesion_id``. ``skin_tone_class`` is not Fitzpatrick's
    and is kept as it is. The test set is unlabelled.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="milk10k",
        title="MILK10k",
        licence="CC BY-NC 4.0; of each image: column copyright_license",
        citation="Tschandl et al. MILK10k: a hierarchical multimodal imaging-learning toolkit for "
        "diagnosing pigmented and nonpigmented skin cancer and its simulators (2025).",
        url="https://challenge.isic-archive.com/data/#milk10k",
        vocabulary=tuple(_DIAGNOSES.values()),
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining", "classification")
    layout: ClassVar[str] = (
        "MILK10k_Training_{GroundTruth,Metadata[,Supplement]}.csv, MILK10k_Test_Metadata.csv and "
        "MILK10k_{Training,Test}_Input/<lesion_id>/<isic_id>.jpg"
    )
    tells: ClassVar[tuple[str, ...]] = ("MILK10k_*_Metadata.csv",)
    expected_images: ClassVar[int | None] = _TRAINING_IMAGES

    def read(self, path: Path, keep_missing: bool = False) -> Imported:
        """Read the folder at ``path``; ``keep_missing`` keeps rows whose image is absent."""
        index = FileIndex(path)
        findings: list[Finding] = []
        index.one(*(f"MILK10k_{name}_Metadata.csv" for name in _PARTS.values()))
        parts = [_read_part(index, split, name, findings) for split, name in _PARTS.items()]
        frame = pd.concat([part for part in parts if not part.empty], ignore_index=True)
        frame["modality"] = modality(frame)
        frame["image"] += ".jpg"
        # A lesion of several diagnoses does not tell which of them its finer one belongs to.
        groups = one_hot(frame, _DIAGNOSES)
        group = [names[0] if len(names) == 1 else None for names in groups]
        hierarchy = frame.assign(group=pd.Series(group, frame.index, dtype=object))
        fine = levels(frame, ("diagnosis_full",))
        frame["labels"] = [list(dict.fromkeys(names)) for names in map(list.__add__, fine, groups)]
        vocabulary = dict.fromkeys([*self.info.vocabulary, *observed(frame["labels"])])
        parents = observed_parents(hierarchy, ("group", "diagnosis_full"))
        imported = assemble(
            frame,
            index,
            replace(self.info, vocabulary=tuple(vocabulary), parents=parents),
            findings=findings,
            keep_missing=keep_missing,
        )
        counts = differing_counts(imported.manifest, {"train": _TRAINING_IMAGES})
        return replace(imported, findings=[*imported.findings, *counts])


def _read_part(index: FileIndex, split: str, name: str, findings: list[Finding]) -> pd.DataFrame:
    """Join metadata (by image), supplement (by image) and ground truth (by lesion) of a split."""
    metadata = index.find(f"MILK10k_{name}_Metadata.csv")
    if not metadata:
        return pd.DataFrame()
    path = index.root / metadata[0]
    frame = read_isic_table(path, findings)
    require_columns(frame, ("lesion_id", "image_type"), path)
    for file in index.find(f"MILK10k_{name}_Supplement.csv")[:1]:
        supplement = read_isic_table(index.root / file, findings)
        new = supplement.columns.difference(frame.columns).union(["image"])
        frame = frame.merge(supplement[list(new)], on="image", how="left")
    for file in index.find(f"MILK10k_{name}_GroundTruth.csv")[:1]:
        truth = read_text_table(index.root / file, findings)
        require_columns(truth, ("lesion_id", *_DIAGNOSES), index.root / file)
        frame = frame.merge(truth.drop_duplicates("lesion_id"), on="lesion_id", how="left")
    return frame.assign(split=split)
