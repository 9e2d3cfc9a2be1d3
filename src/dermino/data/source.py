"""What a source is, and the registry of all sources."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import pandas as pd

from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.manifest import Manifest
from dermino.data.recognition import is_recognised
from dermino.data.reference import is_container
from dermino.data.source_info import SourceInfo
from dermino.errors import UserError, nearest
from dermino.registry import Registry


@dataclass(frozen=True)
class Imported:
    """What reading a publisher's folder gave: the manifest and what was found on the way."""

    manifest: Manifest
    findings: list[Finding] = field(default_factory=list)


class Source(Protocol):
    """Reads one publisher's layout.

    Attributes
    ----------
    info:
        Name, title, licence, citation, address and label vocabulary.
    used_for:
        What the papers use it for: pretraining, classification, segmentation, captions.
    layout:
        What must lie in the folder, in one line, for ``dermino data list``.
    tells:
        The files, folders and columns by which ``auto`` recognises the layout, all of them
        together, in the notation of :func:`dermino.data.recognition.is_recognised`. Empty for
        layouts that nothing tells from others. Where the tells of one source hold all tells of
        another, and more, it is preferred.
    expected_images:
        The published number of images; a shortfall is reported, never fatal.
    """

    info: ClassVar[SourceInfo]
    used_for: ClassVar[tuple[str, ...]]
    layout: ClassVar[str]
    tells: ClassVar[tuple[str, ...]]
    expected_images: ClassVar[int | None]

    def read(self, path: Path, *args: Any, **kwargs: Any) -> Imported:
        """Read the folder or file at ``path``; a UserError says what is missing from it.

        Each source adds the options it needs, by name.
        """
        ...


SOURCES: Registry[type[Source]] = Registry("source", "dermino.data.sources", "dermino.sources")


def import_source(source: str, path: str | Path, **options: Any) -> Imported:
    """Read a publisher's folder into a manifest.

    Parameters
    ----------
    source:
        A name of :data:`SOURCES`, such as ``ham10000``, or ``auto`` to recognise the layout.
    path:
        The folder or file as the publisher ships it.
    options:
        What the source's ``read`` accepts besides the path.

    Raises
    ------
    UserError
        For an unknown source or option, a layout that is not recognised, or when no image is
        found.
    """
    if source == "auto":
        source = recognise(path)
        imported = import_source(source, path, **options)
        remedy = f"If it is another dataset, name it in place of auto; {source} was chosen."
        note = Finding("note", f"recognised as {source}", path=str(path), remedy=remedy)
        return replace(imported, findings=[note, *imported.findings])
    read = SOURCES.get(source)().read
    parameters = list(inspect.signature(read).parameters.values())[1:]
    if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        known = [parameter.name for parameter in parameters]
        for name in options:
            if name not in known:
                raise _unknown_option(source, name, known)
    return read(Path(path), **options)


def recognise(path: str | Path) -> str:
    """Return the name of the source whose layout the folder, archive or file has.

    Raises
    ------
    UserError
        If no source recognises it, or several do.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"There is no file or folder '{path}'.", "Check the path.")
    root, files = path.parent, [path.name]
    if path.is_dir() or is_container(path):
        index = FileIndex(path)
        root, files = index.root, index.files
    found = {
        name: set(source.tells)
        for name, source in SOURCES
        if is_recognised(source.tells, root, files)
    }
    names = [name for name, tells in found.items() if not any(tells < o for o in found.values())]
    if not names:
        raise UserError(
            f"The layout of '{path}' is not recognised.",
            "Name the dataset in place of auto (dermino data list shows all and their layouts), "
            "or use folder or csv for data of your own.",
        )
    if len(names) > 1:
        raise UserError(
            f"'{path}' looks like several datasets: {', '.join(names)}.",
            f"Name the one to import, such as: dermino data import {names[0]} '{path}'",
        )
    return names[0]


def describe_options(source: str) -> str:
    """Return what a source's class and its ``read`` say of themselves, options included."""
    chosen = SOURCES.get(source)
    return f"{inspect.getdoc(chosen)}\n\n{inspect.getdoc(chosen.read)}"


def _unknown_option(source: str, name: str, known: list[str]) -> UserError:
    guess = nearest(name, known)
    hint = f"Did you mean '{guess}'? " if guess else ""
    options = ", ".join(known) or "none"
    return UserError(f"The source '{source}' has no option '{name}'.", f"{hint}It has: {options}.")


def add_masks(frame: pd.DataFrame, index: FileIndex, ending: str) -> pd.DataFrame:
    """Add the ``mask`` column where there are files named like the image ids plus ``ending``."""
    masks = [index.named(f"{name}{ending}") for name in frame["image"]]
    if not any(masks):
        return frame
    frame["mask"] = [files[0] if files else None for files in masks]
    return frame


def assemble(
    frame: pd.DataFrame,
    index: FileIndex,
    info: SourceInfo,
    *,
    findings: Sequence[Finding] = (),
    expected_images: int | None = None,
    keep_missing: bool = False,
    own_table: bool = False,
) -> Imported:
    """Turn a publisher's table into a manifest: find each row's picture and report the rest.

    Parameters
    ----------
    frame:
        One row per image with the manifest's columns (``dataset`` is filled in); ``image`` holds
        the publisher's file name or id, with or without folder and suffix.
    index:
        The files.
    info:
        What is known of the dataset.
    findings:
        What was found before.
    expected_images:
        The published count.
    keep_missing:
        Keep the rows without a picture, for work on labels alone.
    own_table:
        The table is the user's: several rows may name one image, and only some may have a mask.

    Raises
    ------
    UserError
        If no row is left.
    """
    reported = list(findings)
    if frame.empty:
        first = next((f" {f.problem}: {f.detail}." for f in reported if f.severity == "error"), "")
        raise UserError(f"The table of {info.title or info.name} holds no usable row.{first}")
    for row in frame.index[frame["image"].isna()]:
        reported.append(Finding("error", "row names no image", row=int(row)))
    frame = frame[frame["image"].notna()]
    found = [index.named(str(name)) for name in frame["image"]]
    for name, files in zip(frame["image"], found, strict=True):
        if not files:
            remedy = "Add the file below the folder, or go on without it."
            reported.append(Finding("warning", "image is missing", path=str(name), remedy=remedy))
        elif len(files) > 1:
            others = ", ".join(files[1:])
            reported.append(Finding("warning", "several files of one name", others, files[0]))
    images = pd.Series([files[0] if files else "" for files in found], frame.index, dtype=object)
    present = frame.assign(dataset=info.name)
    present["image"] = images.where(images != "", frame["image"] if keep_missing else None)
    present = present[present["image"].notna()]
    second = present["image"].duplicated() & (not own_table)
    for row, name in present.loc[second, "image"].items():
        problem = "image has a second row, which is left out"
        reported.append(Finding("warning", problem, path=name, row=int(str(row))))
    present = present[~second]
    if present.empty:
        hint = (
            f"Unpack {index.archives[0]} first."
            if index.archives
            else ("Check the folder. To work on the labels alone, import with keep_missing=true.")
        )
        raise UserError(
            f"None of the {len(frame):,} images of {info.title or info.name} "
            f"lies in '{index.root}' or below it.",
            hint,
        )
    if not own_table and "mask" in present and present["mask"].notna().any():
        for name in present.loc[present["mask"].isna(), "image"]:
            remedy = "Add the mask below the folder, or segment without this image."
            reported.append(Finding("warning", "mask is missing", path=name, remedy=remedy))
    if expected_images is not None and len(present) != expected_images:
        counts = f"{len(present):,} here, {expected_images:,} published"
        reported.append(Finding("note", "number of images differs", counts))
    return Imported(Manifest.from_frame(present, index.root, [info]), reported)
