"""SD-198: photographs of 198 skin diseases, formerly of DermQuest."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import ClassVar

import pandas as pd

from dermino.data.class_folders import read_class_folders
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.reference import read
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo
from dermino.errors import UserError

CLASSES = tuple(files("dermino.data.sources").joinpath("sd198.txt").read_text("utf-8").split())
_LISTS = ("images.txt", "classes.txt", "image_class_labels.txt")


@SOURCES.register("sd-198")
class Sd198:
    """SD-198 with its lists (``images.txt`` and two more), or its 198 class folders alone.

    Labels are the publisher's class names, underscores and all. SD-128 is the classes with at
    least 20 images. The original has no split; some copies hold
    ``main_classes_split/{train,val}_<k>.txt``.
    """

    info: ClassVar[SourceInfo] = SourceInfo(
        name="sd-198",
        title="SD-198",
        licence="research and academic purposes, on request",
        citation="Sun et al. A benchmark for automatic visual classification of clinical skin "
        "disease images. ECCV 2016.",
        url="https://xiaopingwu.cn/assets/projects/sd-198/",
        vocabulary=CLASSES,
    )
    used_for: ClassVar[tuple[str, ...]] = ("pretraining", "classification")
    layout: ClassVar[str] = (
        "images/<one of 198 folders>/*.jpg with images.txt, classes.txt, image_class_labels.txt"
    )
    tells: ClassVar[tuple[str, ...]] = (
        "image_class_labels.txt | sd-198/* | sd198/* | Actinic_solar_Damage*/* | Becker*s_Nevus/*",
    )
    expected_images: ClassVar[int | None] = 6_584

    def read(self, path: Path, fold: str | None = None, keep_missing: bool = False) -> Imported:
        """Read the folder at ``path``.

        Parameters
        ----------
        path:
            The folder.
        fold:
            Number of one of the copy's split lists, written into ``split``.
        keep_missing:
            Keep rows of ``images.txt`` whose image is absent.
        """
        index = FileIndex(path)
        findings: list[Finding] = []
        info = self.info
        if index.find("image_class_labels.txt"):
            frame, classes = _read_lists(index, findings)
            info = replace(info, vocabulary=classes)
        else:
            frame = read_class_folders(index, CLASSES, findings)
        if fold is not None:
            frame["split"] = _splits(frame["image"], index, fold)
        frame["modality"] = "clinical"
        return assemble(
            frame,
            index,
            info,
            findings=findings,
            expected_images=self.expected_images,
            keep_missing=keep_missing,
        )


def _read_lists(index: FileIndex, findings: list[Finding]) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Join the three lists; their numbers are the only link, the order of names means nothing."""
    images, classes, labels = (_numbered(index.one(name)) for name in _LISTS)
    rows = []
    for number, image in images.items():
        label = classes.get(labels.get(number, ""))
        if label is None:
            detail = f"image {number} in {_LISTS[2]}"
            findings.append(Finding("warning", "image has no class in the lists", detail, image))
        rows.append((image, [label] if label else []))
    return pd.DataFrame(rows, columns=["image", "labels"]), tuple(classes.values())


def _numbered(path: Path) -> dict[str, str]:
    lines = (line.split(maxsplit=1) for line in read(path).decode(errors="replace").splitlines())
    return {fields[0]: fields[1].strip() for fields in lines if len(fields) == 2}


def _splits(images: pd.Series, index: FileIndex, fold: str) -> list[str]:
    """Look up every image, by class folder and name, in the lists of a fold."""
    splits: dict[tuple[str, ...], str] = {}
    for split in ("train", "val", "test"):
        for file in index.find(f"{split}_{fold}.txt"):
            for line in read(index.root / file).decode(errors="replace").splitlines():
                if line.strip():
                    splits[_key(line.rsplit(maxsplit=1)[0])] = split
    if not splits:
        raise UserError(
            f"There is no train_{fold}.txt or val_{fold}.txt in '{index.root}' or below it.",
            "Import without fold; dermino data split makes a split.",
        )
    return [splits.get(_key(image), "") for image in images]


def _key(path: str) -> tuple[str, ...]:
    return PurePosixPath(path.lower()).parts[-2:]
