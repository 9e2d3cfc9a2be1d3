"""PATCH16: tiles of haematoxylin and eosin stained skin sections, normal tissue and tumours."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from dermino.data.columns import require_columns, typed_columns, written_out
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo
from dermino.data.text_table import read_text_table

TISSUES = {
    "nontumor_skin_necrosis_necrosis": "necrosis",
    "nontumor_skin_muscle_skeletal": "skeletal muscle",
    "nontumor_skin_sweatglands_sweatglands": "sweat glands",
    "nontumor_skin_vessel_vessel": "vessel",
    "nontumor_skin_elastosis_elastosis": "elastosis",
    "nontumor_skin_chondraltissue_chondraltissue": "chondral tissue",
    "nontumor_skin_hairfollicle_hairfollicle": "hair follicle",
    "nontumor_skin_epidermis_epidermis": "epidermis",
    "nontumor_skin_nerves_nerves": "nerves",
    "nontumor_skin_subcutis_subcutis": "subcutis",
    "nontumor_skin_dermis_dermis": "dermis",
    "nontumor_skin_sebaceousglands_sebaceousglands": "sebaceous glands",
    "tumor_skin_epithelial_sqcc": "squamous cell carcinoma",
    "tumor_skin_melanoma_melanoma": "melanoma",
    "tumor_skin_epithelial_bcc": "basal cell carcinoma",
    "tumor_skin_naevus_naevus": "nevus",
}


@SOURCES.register("patch16")
class Patch16:
    """The tiles of heiDATA with the publisher's training, validation and test sets.

    The publisher's ``class`` is kept beside the label written out.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="patch16",
        title="PATCH16",
        licence="as heiDATA states at the address",
        citation="Kriegsmann et al. Deep learning for the detection of anatomical tissue "
        "structures and neoplasms of the skin on scanned histopathological tissue sections. "
        "Front Oncol 12, 1022967 (2022).",
        url="https://doi.org/10.11588/data/7QCR8S",
        vocabulary=tuple(TISSUES.values()),
    )
    used_for: ClassVar[tuple[str, ...]] = ("classification",)
    layout: ClassVar[str] = "tiles-v2.csv and tiles/<class>/*.jpg or *.tif"
    tells: ClassVar[tuple[str, ...]] = ("tiles-v2.csv: file, class, set",)
    expected_images: ClassVar[int | None] = 129_364

    def read(self, path: Path, keep_missing: bool = False) -> Imported:
        """Read the folder at ``path``; ``keep_missing`` keeps rows whose image is absent."""
        index = FileIndex(path)
        metadata = index.one("tiles-v2.csv")
        findings: list[Finding] = []
        frame = read_text_table(metadata, findings)
        require_columns(frame, ("file", "class", "set"), metadata)
        frame["image"] = [
            _below_tiles(file, tissue)
            for file, tissue in zip(frame["file"], frame["class"], strict=True)
        ]
        frame["labels"] = written_out(frame["class"], TISSUES, metadata, findings)
        frame = typed_columns(frame.rename(columns={"set": "split"}), metadata, findings)
        frame["modality"] = "histology"
        return assemble(
            frame.drop(columns="file"),
            index,
            self.info,
            findings=findings,
            expected_images=self.expected_images,
            keep_missing=keep_missing,
        )


def _below_tiles(file: str | None, tissue: str | None) -> str | None:
    """Return class folder and name: what lies above the class folder depends on the unpacking."""
    if file is None:
        return None
    *above, name = file.replace("\\", "/").split("/")
    return f"{above[-1] if above else tissue}/{name}"
