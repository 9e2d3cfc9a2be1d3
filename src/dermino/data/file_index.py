"""Finding a publisher's files wherever unpacking has put them."""

from __future__ import annotations

import os
from collections import defaultdict
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path, PurePosixPath

from dermino.errors import UserError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
)
_IGNORED_FOLDERS = frozenset({"__macosx", "@eadir", ".git", ".ipynb_checkpoints"})
_IGNORED_FILES = frozenset({"thumbs.db", ".ds_store", "desktop.ini"})


class FileIndex:
    """All files below a folder, found again by name whatever their case and depth.

    Archives are often unpacked twice (``X/X/...``) and their names change case on the way, so
    nothing here depends on either. What operating systems leave behind is not listed.

    Parameters
    ----------
    root:
        The folder.

    Raises
    ------
    UserError
        If ``root`` is not a folder, or holds no file.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise UserError(f"There is no folder '{root}'.", "Give the folder of the images.")
        self.files = sorted(_walk(self.root))
        if not self.files:
            raise UserError(f"The folder '{root}' is empty.", "Check the path.")

    @cached_property
    def images(self) -> list[str]:
        """The files whose suffix is a picture's, relative to the root, sorted."""
        return [file for file in self.files if PurePosixPath(file).suffix.lower() in IMAGE_SUFFIXES]

    @cached_property
    def archives(self) -> list[str]:
        """The packed archives that lie among the files."""
        packed = {".zip", ".tar", ".tgz", ".gz", ".7z", ".rar"}
        return [file for file in self.files if PurePosixPath(file).suffix.lower() in packed]

    def find(self, *patterns: str) -> list[str]:
        """Return the files whose name fits one of the patterns (``*`` and ``?``, any case)."""
        return [
            file
            for file in self.files
            if any(fnmatch(_name(file), pattern.lower()) for pattern in patterns)
        ]

    def one(self, *patterns: str) -> Path:
        """Return where the first file fitting a pattern lies.

        Raises
        ------
        UserError
            If there is none.
        """
        found = self.find(*patterns)
        if not found:
            hint = f"Unpack {self.archives[0]} first. " if self.archives else ""
            wanted = " or ".join(patterns)
            raise UserError(
                f"There is no {wanted} in '{self.root}' or below it.",
                f"{hint}Give the folder in which the publisher's archive was unpacked.",
            )
        return self.root / found[0]

    def named(self, name: str) -> list[str]:
        """Return the pictures called ``name``, with or without suffix, at any depth, any case.

        A path that exists as it is written comes alone; otherwise those whose name and suffix
        fit, otherwise those whose name fits without the suffix. Folders in ``name`` must fit too:
        ``nevus/1.jpg`` is never ``melanoma/1.jpg``.
        """
        name = name.replace("\\", "/").lstrip("/")
        if name in self._known:
            return [name]
        folder = PurePosixPath(name).parent.as_posix().lower()
        found = self._by_name.get(_name(name)) or self._by_name.get(_stem(name)) or []
        if folder == ".":
            return found
        return [file for file in found if f"/{_folder(file)}".endswith(f"/{folder}")]

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.images)

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for file in self.images:
            found[_name(file)].append(file)
            found[_stem(file)].append(file)
        return dict(found)


def _name(file: str) -> str:
    return PurePosixPath(file).name.lower()


def _folder(file: str) -> str:
    return PurePosixPath(file).parent.as_posix().lower()


def _stem(file: str) -> str:
    path = PurePosixPath(file)
    return (path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name).lower()


def _walk(root: Path) -> list[str]:
    files = []
    seen: set[str] = set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # A link to a folder above would never end.
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if name.lower() not in _IGNORED_FOLDERS)
        place = Path(folder).relative_to(root)
        files += [
            (place / name).as_posix()
            for name in names
            if name.lower() not in _IGNORED_FILES and not name.startswith("._")
        ]
    return files
