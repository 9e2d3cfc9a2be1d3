"""What a source is, and the registry of all sources."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from dermino.data.findings import Finding
from dermino.data.manifest import Manifest, SourceInfo
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
    expected_images:
        The published number of images; a shortfall is reported, never fatal.
    """

    info: ClassVar[SourceInfo]
    used_for: ClassVar[tuple[str, ...]]
    layout: ClassVar[str]
    expected_images: ClassVar[int | None]

    def read(self, path: Path, **options: Any) -> Imported:
        """Read the folder or file at ``path``; a UserError says what is missing from it."""
        ...


SOURCES: Registry[type[Source]] = Registry("source", "dermino.data.sources", "dermino.sources")


def import_source(source: str, path: str | Path, **options: Any) -> Imported:
    """Read a publisher's folder into a manifest.

    Parameters
    ----------
    source:
        A name of :data:`SOURCES`, such as ``ham10000``.
    path:
        The folder or file as the publisher ships it.
    options:
        What the source's ``read`` accepts besides the path.
    """
    return SOURCES.get(source)().read(Path(path), **options)
