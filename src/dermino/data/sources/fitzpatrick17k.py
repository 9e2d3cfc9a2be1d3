"""Fitzpatrick17k: clinical images from two atlases with skin type and three levels of labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pandas as pd

from dermino.data.columns import require_columns, typed
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.levels import observed_parents
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo
from dermino.data.text_table import read_text_table

LEVELS = ("label", "nine_partition_label", "three_partition_label")
_OLDER_NAMES = {"hasher": "md5hash", "fitzpatrick": "fitzpatrick_scale"}


@SOURCES.register("fitzpatrick17k")
class Fitzpatrick17k:
    """``fitzpatrick17k.csv`` and the images that could be had, named by their ``md5hash``.

    Every image carries its label, its group of nine and its group of three, as in the paper's
    label table; the three columns are kept too. Skin type is ``fitzpatrick_scale``, -1 unknown.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="fitzpatrick17k",
        title="Fitzpatrick17k",
        licence="CC BY-NC-SA 3.0",
        citation="Groh et al. Evaluating deep neural networks trained on clinical images in "
        "dermatology with the Fitzpatrick 17k dataset. CVPR Workshops 2021.",
        url="https://github.com/mattgroh/fitzpatrick17k",
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining", "classification")
    layout: ClassVar[str] = "fitzpatrick17k.csv (or the file itself) and <md5hash>.jpg at any depth"
    tells: ClassVar[tuple[str, ...]] = ("fitzpatrick17k*.csv",)
    expected_images: ClassVar[int | None] = 16_577

    def read(
        self, path: Path, images: str | Path | None = None, keep_missing: bool = False
    ) -> Imported:
        """Read the folder or CSV at ``path``.

        Parameters
        ----------
        path:
            The folder that holds ``fitzpatrick17k.csv``, or that file.
        images:
            Folder of the images, where it is another.
        keep_missing:
            Keep rows whose image is absent: enough to build a taxonomy from the labels.
        """
        folder = path.parent if path.is_file() else path
        metadata = path if path.is_file() else FileIndex(path).one("fitzpatrick17k.csv")
        index = FileIndex(images or folder)
        findings: list[Finding] = []
        frame = read_text_table(metadata, findings).rename(columns=_OLDER_NAMES)
        require_columns(frame, ("md5hash", "fitzpatrick_scale", *LEVELS), metadata)
        frame = frame.rename(columns={"md5hash": "image"})
        frame["labels"] = [_names(row) for row in frame[list(LEVELS)].itertuples(index=False)]
        frame["skin_type"] = typed(frame["fitzpatrick_scale"], "skin_type", metadata, findings)
        frame["modality"] = "clinical"
        frame["image"] += ".jpg"
        # The publisher names no other vocabulary than the values of the complete table.
        levels = [sorted(frame[level].dropna().unique()) for level in LEVELS]
        vocabulary = tuple(dict.fromkeys(name for level in levels for name in level))
        return assemble(
            frame,
            index,
            replace(
                self.info, vocabulary=vocabulary, parents=observed_parents(frame, reversed(LEVELS))
            ),
            findings=findings,
            expected_images=self.expected_images,
            keep_missing=keep_missing,
        )


def _names(levels: tuple[str | None, ...]) -> list[str]:
    return list(dict.fromkeys(name for name in levels if name and not pd.isna(name)))
