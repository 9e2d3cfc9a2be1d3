"""One thing to fetch, and what to make of it."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Crop:
    """A part of a picture that becomes a file: box as x centre, y centre, width, height."""

    path: str
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Target:
    """An address and the file it becomes.

    Parameters
    ----------
    url:
        Where it is.
    path:
        Where it goes, relative to the folder.
    size, md5, sha256:
        What it is checked by, where known.
    picture:
        Whether it must be a readable picture: dead links often lead to a page of words.
    crops:
        Files that are cut out of it; it is then not kept itself.
    """

    url: str
    path: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None
    picture: bool = False
    crops: tuple[Crop, ...] = ()

    @property
    def host(self) -> str:
        """The host that is asked."""
        try:
            return urlsplit(self.url).netloc.lower()
        except ValueError:
            return ""

    @property
    def results(self) -> tuple[str, ...]:
        """The files that are there once it is done."""
        return tuple(crop.path for crop in self.crops) or (self.path,)
