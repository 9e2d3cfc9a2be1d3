"""DermNet: 23 groups of skin diseases from dermnet.com, as collected on Kaggle."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import ClassVar

from dermino.data.class_folders import folder_classes, read_class_folders
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo

CLASSES = (
    "Acne and Rosacea Photos",
    "Actinic Keratosis Basal Cell Carcinoma and other Malignant Lesions",
    "Atopic Dermatitis Photos",
    "Bullous Disease Photos",
    "Cellulitis Impetigo and other Bacterial Infections",
    "Eczema Photos",
    "Exanthems and Drug Eruptions",
    "Hair Loss Photos Alopecia and other Hair Diseases",
    "Herpes HPV and other STDs Photos",
    "Light Diseases and Disorders of Pigmentation",
    "Lupus and other Connective Tissue diseases",
    "Melanoma Skin Cancer Nevi and Moles",
    "Nail Fungus and other Nail Disease",
    "Poison Ivy Photos and other Contact Dermatitis",
    "Psoriasis pictures Lichen Planus and related diseases",
    "Scabies Lyme Disease and other Infestations and Bites",
    "Seborrheic Keratoses and other Benign Tumors",
    "Systemic Disease",
    "Tinea Ringworm Candidiasis and other Fungal Infections",
    "Urticaria Hives",
    "Vascular Tumors",
    "Vasculitis Photos",
    "Warts Molluscum and other Viral Infections",
)
_RUNNING_NUMBER = re.compile(r"[-_ ()\d]+$")


@SOURCES.register("dermnet")
class DermNet:
    """DermNet (Kaggle ``shubhamgoel27/dermnet``), not DermNet NZ.

    The label is the folder, one of 23 groups. ``slug`` is the file name without its running
    number (``acne-cystic``), a weak hint at the diagnosis. The split is the uploader's; pictures
    recur under several slugs, so look for duplicates before believing it.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="dermnet",
        title="DermNet",
        licence="no open licence; research use with the owners' permission",
        citation="DermNet skin disease atlas, dermnet.com; collected by S. Goel on Kaggle.",
        url="https://www.kaggle.com/datasets/shubhamgoel27/dermnet",
        vocabulary=CLASSES,
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining", "classification")
    layout: ClassVar[str] = "{train,test}/<one of 23 folders>/*.jpg at any depth"
    tells: ClassVar[tuple[str, ...]] = (" | ".join(f"{name}/*" for name in CLASSES),)
    expected_images: ClassVar[int | None] = 19_559

    def read(self, path: Path) -> Imported:
        """Read the folder at ``path``."""
        index = FileIndex(path)
        findings: list[Finding] = []
        frame = read_class_folders(index, CLASSES, findings)
        frame["split"] = [part or "" for part in folder_classes(frame["image"], ("train", "test"))]
        stems = [PurePosixPath(file).stem for file in frame["image"]]
        frame["slug"] = [_RUNNING_NUMBER.sub("", stem).lower() or None for stem in stems]
        frame["modality"] = "clinical"
        return assemble(
            frame, index, self.info, findings=findings, expected_images=self.expected_images
        )
