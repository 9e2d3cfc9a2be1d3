"""What is known of whole datasets, and how it is stored beside a manifest's table."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dermino.errors import UserError

VERSION = 1


@dataclass(frozen=True)
class SourceInfo:
    """What is known of a dataset as a whole.

    ``vocabulary`` lists every label its publisher could have given: a label in it that an image
    does not carry is a negative, a label outside it is unknown (n_ij of Eq. 6).
    ``parents`` holds pairs (label, broader label) that the publisher's own columns give: an image
    with the first has the second too, and nobody knows which of its narrower labels an image
    with only the second has.
    """

    name: str
    title: str = ""
    licence: str = ""
    citation: str = ""
    url: str = ""
    vocabulary: tuple[str, ...] = ()
    synthetic: bool = False
    parents: tuple[tuple[str, str], ...] = ()


def merge(first: SourceInfo, second: SourceInfo) -> SourceInfo:
    """Join what two manifests say of one dataset; of title, licence and the like the first's."""
    vocabulary = tuple(dict.fromkeys(first.vocabulary + second.vocabulary))
    parents = tuple(dict.fromkeys(first.parents + second.parents))
    synthetic = first.synthetic or second.synthetic
    return replace(first, vocabulary=vocabulary, synthetic=synthetic, parents=parents)


def describe(root: Path, sources: Mapping[str, SourceInfo], folder: Path) -> dict[str, Any]:
    """Return what is stored beside a table as plain values for JSON.

    Parameters
    ----------
    root:
        Folder of the images; stored relative to ``folder`` where one lies below the other.
    sources:
        By the name of the dataset.
    folder:
        Where the manifest is written to.
    """
    return {
        "version": VERSION,
        "root": _portable_root(root, folder),
        "sources": {name: asdict(info) for name, info in sources.items()},
    }


def parse_description(stored: bytes, path: Path) -> tuple[Path, dict[str, SourceInfo]]:
    """Return root and sources from the JSON of :func:`describe`, as stored at ``path``.

    Raises
    ------
    UserError
        If it is damaged, or of a later version.
    """
    try:
        described = json.loads(stored)
        version = described.get("version", VERSION)
        if version != VERSION:
            raise ValueError(f"its version is {version}, this dermino reads {VERSION}")
        root = Path(os.path.normpath(path.parent / described.get("root", ".")))
        sources = {
            name: SourceInfo(
                **{
                    **info,
                    "vocabulary": tuple(info.get("vocabulary", ())),
                    "parents": tuple((fine, broad) for fine, broad in info.get("parents", ())),
                }
            )
            for name, info in described.get("sources", {}).items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(
            f"'{path}' describes its root and sources in a way that cannot be read: {error}.",
            "Import the images again.",
        ) from error
    return root, sources


def _portable_root(root: Path, folder: Path) -> str:
    root, folder = root.absolute(), folder.absolute()
    if root.is_relative_to(folder) or folder.is_relative_to(root):
        return Path(os.path.relpath(root, folder)).as_posix()
    return root.as_posix()
