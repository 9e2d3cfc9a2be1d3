"""The layout of the ISIC challenges: for each split a folder of images, tables and masks."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import ClassVar

import pandas as pd

from dermino.data.columns import require_columns, typed_columns
from dermino.data.file_index import FileIndex, folders
from dermino.data.findings import Finding
from dermino.data.manifest import Manifest
from dermino.data.source import Imported, assemble
from dermino.data.source_info import SourceInfo
from dermino.data.text_table import read_text_table
from dermino.errors import UserError

# How the years, the archive's exports and their mirrors call the manifest's columns.
_NAMES = {
    "image_id": "image",
    "image_name": "image",
    "img_id": "image",
    "isic_id": "image",
    "bcn_filename": "image",
    "patient": "patient_id",
    "age_approx": "age",
    "age_approximate": "age",
    "gender": "sex",
    "anatom_site_general": "site",
    "anatom_site_general_challenge": "site",
    "anatom_site_1": "site",
    "fitzpatrick_skin_type": "skin_type",
    "capture_date": "date",
    "label": "label",  # So that a mirror's "Label" is found.
}
_IDENTIFIER = re.compile(r"((?:isic|bcn)_\d+(?:_downsampled)?)(_segmentation)?", re.I)


@dataclass(frozen=True)
class Part:
    """One split of a dataset in the layout of the ISIC challenges.

    Attributes
    ----------
    split:
        train, val or test.
    images, masks:
        Folders, the preferred one first; all others are ignored where it exists, because other
        years' folders beside it have images of the same names.
    tables:
        Files with one row per image, joined by the image's id. ``a.csv | b.csv``: the first that
        exists.
    expected:
        The published number of images.
    """

    split: str
    images: tuple[str, ...]
    tables: tuple[str, ...] = ()
    masks: tuple[str, ...] = ()
    expected: int | None = None


class Challenge(ABC):
    """A source in this layout; each year adds its parts and says how labels are written.

    Parts that are absent are reported, and images without a row in a table are unlabelled.
    """

    info: ClassVar[SourceInfo]
    used_for: ClassVar[tuple[str, ...]] = ("pretraining", "classification")
    layout: ClassVar[str]
    tells: ClassVar[tuple[str, ...]]
    expected_images: ClassVar[int | None]
    modality: ClassVar[str] = "dermoscopic"
    parts: ClassVar[tuple[Part, ...]]

    @abstractmethod
    def labels(self, frame: pd.DataFrame) -> list[list[str]]:
        """Return the labels of every row of the joined tables; none where there is no truth."""

    def read(self, path: Path, keep_missing: bool = False) -> Imported:
        """Read the folder at ``path``; ``keep_missing`` keeps rows whose image is absent."""
        index = FileIndex(path)
        findings: list[Finding] = []
        frame = self.table(index, self.parts, findings)
        if frame.empty:
            raise UserError(
                f"There is nothing of {self.info.title} in '{path}' or below it.",
                f"Its layout is: {self.layout}.",
            )
        published = {part.split: part.expected for part in self.parts if part.expected is not None}
        imported = assemble(
            frame,
            index,
            self.info_of(frame),
            findings=findings,
            expected_images=None if published else self.expected_images,
            keep_missing=keep_missing,
        )
        counts = differing_counts(imported.manifest, published)
        return replace(imported, findings=[*imported.findings, *counts])

    def info_of(self, frame: pd.DataFrame) -> SourceInfo:
        """Return what is known of the dataset; some have no vocabulary but that of their table."""
        return self.info

    def table(
        self, index: FileIndex, parts: Iterable[Part], findings: list[Finding]
    ) -> pd.DataFrame:
        """Return one row per image of the parts, with the manifest's columns and all others.

        Parameters
        ----------
        index:
            The files.
        parts:
            Those of ``self.parts`` that are wanted.
        findings:
            Where values and rows that cannot be used are reported.
        """
        frames = [_read_part(part, index, findings) for part in parts]
        frames = [frame for frame in frames if not frame.empty]
        if not frames:
            return pd.DataFrame()
        frame = pd.concat(frames, ignore_index=True).astype(object)
        frame["labels"] = self.labels(frame)
        return frame.assign(modality=self.modality)


def differing_counts(manifest: Manifest, published: Mapping[str, int]) -> list[Finding]:
    """Note which splits have another number of images than ``published``."""
    counts = Counter(manifest.column("split"))
    return [
        Finding(
            "note",
            "number of images differs",
            f"{split}: {counts[split]:,} here, {number:,} published",
        )
        for split, number in published.items()
        if counts[split] != number
    ]


def named_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """Give the columns of a table of ISIC's the manifest's names, whatever the year's are."""
    chosen: dict[str, str] = {}
    for name in frame.columns:
        target = _NAMES.get(name.lower())
        if target is not None and target not in frame.columns and target not in chosen.values():
            chosen[name] = target
    return frame.rename(columns=chosen)


def one_hot(frame: pd.DataFrame, names: Mapping[str, str]) -> list[list[str]]:
    """Return the labels of one-hot columns, written out; a row may have several, or none.

    Parameters
    ----------
    frame:
        One column of text (``1.0``, ``0``, or None) per code, in whatever case.
    names:
        The label of each code, in capitals; a code without a column is never given.
    """
    labels: list[list[str]] = [[] for _ in range(len(frame))]
    columns = {str(column).upper(): column for column in frame.columns}
    for code, name in names.items():
        for row, flag in enumerate(frame[columns[code]] if code in columns else ()):
            if flag in {"1", "1.0"}:
                labels[row].append(name)
    return labels


def levels(frame: pd.DataFrame, columns: Iterable[str]) -> list[list[str]]:
    """Return the labels of a hierarchy's columns, given from coarse to fine, the finest first."""
    present = [name for name in reversed(list(columns)) if name in frame.columns]
    rows = frame[present].itertuples(index=False)
    return [list(dict.fromkeys(name for name in row if isinstance(name, str))) for row in rows]


def observed(labels: Iterable[list[str]]) -> tuple[str, ...]:
    """Return all labels that occur: the vocabulary of a publisher who names no other."""
    return tuple(sorted({name for row in labels for name in row}))


def read_isic_table(path: Path, findings: list[Finding]) -> pd.DataFrame:
    """Read a table with one row per image; its columns get the manifest's names and types."""
    frame = read_text_table(path, findings)
    if _IDENTIFIER.fullmatch(frame.columns[0]):  # ISIC 2016 ships its tables without a header.
        frame.loc[0] = list(frame.columns)
        frame = frame.sort_index().set_axis(["image", "label"], axis=1)
    frame = named_columns(frame)
    require_columns(frame, ("image",), path)
    frame["image"] = frame["image"].str.strip().str.replace(r"\.jpe?g$", "", case=False, regex=True)
    for row, name in frame.loc[frame["image"].duplicated(), "image"].dropna().items():
        problem = "image has a second row, which is left out"
        findings.append(Finding("warning", problem, str(name), str(path), int(str(row))))
    return typed_columns(frame.drop_duplicates("image"), path, findings)


def _read_part(part: Part, index: FileIndex, findings: list[Finding]) -> pd.DataFrame:
    pictures = _below(index, part.images, segmentation=False)
    frame = pd.DataFrame({"image": [PurePosixPath(file).stem for file in pictures.values()]})
    known = {name.lower(): name for name in frame["image"]}
    for pattern in part.tables:
        files = [file for one in pattern.split("|") for file in index.find(one.strip())]
        if files:
            table = read_isic_table(index.root / files[0], findings)
            table["image"] = [known.get(str(name).lower(), name) for name in table["image"]]
            new = [name for name in table.columns if name == "image" or name not in frame.columns]
            frame = frame.merge(table[new], on="image", how="outer")
    masks = _below(index, part.masks, segmentation=True)
    if masks:
        frame["mask"] = [masks.get(str(name).lower()) for name in frame["image"]]
    # Where the folder is there, an image of another folder is another year's.
    missing = f"{part.images[0]}/" if pictures else ""
    frame["image"] = [
        None if pd.isna(name) else pictures.get(name.lower(), f"{missing}{name}.jpg")
        for name in frame["image"]
    ]
    return frame.assign(split=part.split)


def _below(index: FileIndex, called: Iterable[str], segmentation: bool) -> dict[str, str]:
    """The images, or the masks, directly in the first of the folders that has any, by their id."""
    places = {file.rpartition("/")[0] for file in index.images}
    for folder in called:
        chosen = {place for place in places if _is_called(place, folder, index.root)}
        found: dict[str, str] = {}
        for file in index.images if chosen else ():
            place, _, name = file.rpartition("/")
            identifier = _IDENTIFIER.fullmatch(name.partition(".")[0])
            if place in chosen and identifier and bool(identifier[2]) == segmentation:
                found.setdefault(identifier[1].lower(), file)
        if found:
            return found
    return {}


def _is_called(place: str, folder: str, root: Path) -> bool:
    """Whether a place below the root, or the root itself, is a folder or archive so called."""
    above = folders(f"{place}/file") if place else []
    path = "/".join(["", root.absolute().name, *above])
    return path.lower().endswith(f"/{folder.lower()}")
