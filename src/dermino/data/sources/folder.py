"""Any folder of images: nested, unlabelled, or one sub-folder a class."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import ClassVar, Literal, get_args

import pandas as pd

from dermino.data.file_index import FileIndex, folders
from dermino.data.findings import Finding
from dermino.data.reference import is_container
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo
from dermino.errors import UserError, unknown

Classes = Literal["auto", "yes", "no"]
_SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_MASK_ENDINGS = ("_segmentation", "_mask")


@SOURCES.register("folder")
class Folder:
    """Every picture below a folder; class and split folders are recognised.

    Folders called train, val or test (and their longer forms) give the split. Below them, or
    below the folder that all pictures share, sub-folders are classes when there are at least two
    and no picture lies beside them. A picture called ``x_mask`` or ``x_segmentation`` is the mask
    of picture ``x``.
    """

    info: ClassVar[SourceInfo] = SourceInfo(name="folder", title="Your own folder")
    used_for: ClassVar[tuple[str, ...]] = ("pretraining", "classification")
    layout: ClassVar[str] = "[train|val|test/][class/]... any pictures at any depth"
    tells: ClassVar[tuple[str, ...]] = ()
    expected_images: ClassVar[int | None] = None

    def read(self, path: Path, classes: Classes = "auto", name: str | None = None) -> Imported:
        """Read the folder at ``path``.

        Parameters
        ----------
        path:
            The folder.
        classes:
            ``yes``: the first sub-folder is the class; ``no``: unlabelled; ``auto``: look. Folders
            that differ only in a number (part_1, part_2; 001, 002) are not taken for classes.
        name:
            What to call the dataset; the folder's name by default.
        """
        if classes not in get_args(Classes):
            raise unknown("value of classes", str(classes), get_args(Classes))
        if path.is_file() and not is_container(path):
            raise UserError(
                f"'{path}' is not a folder.",
                "Give the folder of the images; to read a table, use the source csv.",
            )
        index = FileIndex(path)
        if not index.images:
            hint = f"Unpack {index.archives[0]} first." if index.archives else "Check the path."
            raise UserError(f"There is no picture in '{path}' or below it.", hint)
        name = name or path.resolve().name
        masks = _masks(index)
        taken = frozenset(masks.values())
        images = [file for file in index.images if file not in taken]
        places = [folders(file) for file in images]
        places = _without_shared(places)
        splits = [_SPLITS.get(place[0].lower(), "") if place else "" for place in places]
        if all(splits):
            places = _without_shared([place[1:] for place in places])
        else:
            splits = [""] * len(places)
        names = sorted({place[0] for place in places if place})
        outside = sum(not place for place in places)
        findings: list[Finding] = []
        if classes == "yes" and not names:
            raise UserError(
                f"'{path}' has no sub-folders that could be classes.",
                "Import it without classes=yes, or give the folder above.",
            )
        labelled = classes == "yes" or (classes == "auto" and not outside and _are_classes(names))
        if labelled:
            problem = "labels were taken from the folders' names"
            remedy = "Import with classes=no if they are not diagnoses."
            findings.append(Finding("note", problem, ", ".join(names), str(path), remedy=remedy))
        elif names and classes == "auto":
            problem = "sub-folders were not taken for classes"
            remedy = "Import with classes=yes if they are."
            findings.append(Finding("note", problem, ", ".join(names), str(path), remedy=remedy))
        frame = pd.DataFrame(
            {
                "image": images,
                "split": splits,
                "labels": [place[:1] if labelled else [] for place in places],
            }
        )
        if masks:
            frame["mask"] = [masks.get(image) for image in images]
            problem = "pictures were taken for masks of others"
            example = next(iter(masks.values()))
            findings.append(Finding("note", problem, f"{len(masks):,}, such as {example}"))
        vocabulary = tuple(names) if labelled else ()
        info = SourceInfo(name, title=name, vocabulary=vocabulary)
        return assemble(frame, index, info, findings=findings)


def _masks(index: FileIndex) -> dict[str, str]:
    """The mask of each picture ``x`` that has an ``x_mask`` or ``x_segmentation`` beside it."""
    masks = {}
    for file in index.images:
        stem = PurePosixPath(file).stem
        for ending in _MASK_ENDINGS:
            if stem.lower().endswith(ending):
                owners = index.named(stem[: -len(ending)])
                if len(owners) == 1:
                    masks[owners[0]] = file
    return masks


def _without_shared(places: list[list[str]]) -> list[list[str]]:
    """Drop the leading folders that every picture shares, unless they name a split."""
    while all(places) and len({place[0] for place in places}) == 1:
        if places[0][0].lower() in _SPLITS:
            break
        places = [place[1:] for place in places]
    return places


def _are_classes(names: list[str]) -> bool:
    without_numbers = {re.sub(r"\d+", "", name) for name in names}
    return len(names) >= 2 and len(without_numbers) > 1
