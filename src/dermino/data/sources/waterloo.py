"""Waterloo's skin cancer database: photographs from DermIS and DermQuest with lesion outlines."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import ClassVar

import pandas as pd

from dermino.data.file_index import FileIndex
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo
from dermino.errors import UserError

_LABELS = {"melanoma": "melanoma", "notmelanoma": "not melanoma"}


@SOURCES.register("waterloo")
class Waterloo:
    """Both archives of the University of Waterloo, unpacked side by side (the paper's Skincancer).

    A picture ``x_orig`` and its mask ``x_contour`` (a filled region, in spite of its name) lie in
    one folder. The folder above tells melanoma from the rest, the folder itself which atlas the
    picture is from: column ``collection``.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="waterloo",
        title="Waterloo skin cancer database",
        licence="for research; pictures remain DermIS's and DermQuest's",
        citation="Vision and Image Processing Lab, University of Waterloo. Skin cancer detection.",
        url="https://uwaterloo.ca/vision-image-processing-lab/research-demos/skin-cancer-detection",
        vocabulary=tuple(_LABELS.values()),
    )
    used_for: ClassVar[tuple[str, ...]] = ("segmentation",)
    layout: ClassVar[str] = (
        "{melanoma,notmelanoma}/{dermis,dermquest}/<name>_orig.jpg and <name>_contour.png"
    )
    tells: ClassVar[tuple[str, ...]] = (
        "melanoma/*_orig.jpg | notmelanoma/*_orig.jpg",
        "melanoma/*_contour.png | notmelanoma/*_contour.png",
    )
    expected_images: ClassVar[int | None] = 206

    def read(self, path: Path) -> Imported:
        """Read the folder at ``path``."""
        index = FileIndex(path)
        files = {_key(file): file for file in index.images}
        rows = []
        for (folder, stem), file in files.items():
            name, _, kind = stem.rpartition("_")
            classes = [part for part in PurePosixPath(folder).parts if part in _LABELS]
            if kind != "orig" or not classes:
                continue
            rows.append(
                {
                    "image": file,
                    "mask": files.get((folder, f"{name}_contour")),
                    "labels": [_LABELS[classes[-1]]],
                    "collection": PurePosixPath(folder).name,
                    "modality": "clinical",
                }
            )
        if not rows:
            raise UserError(
                f"There is no melanoma/.../*_orig.jpg or notmelanoma/.../*_orig.jpg in '{path}'.",
                f"Give the folder with: {self.layout}.",
            )
        return assemble(
            pd.DataFrame(rows),
            index,
            self.info,
            expected_images=self.expected_images,
        )


def _key(file: str) -> tuple[str, str]:
    place = PurePosixPath(file.lower())
    return place.parent.as_posix(), place.stem
