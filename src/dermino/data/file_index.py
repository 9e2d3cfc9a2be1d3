"""Finding a publisher's files wherever unpacking has put them."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from fnmatch import translate
from functools import cached_property
from pathlib import Path, PurePosixPath
from posixpath import splitext

from dermino.data.reference import SEPARATOR, is_container, members
from dermino.errors import UserError

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
)
_IGNORED_FOLDERS = frozenset({"__macosx", "@eadir", ".git", ".ipynb_checkpoints"})
_IGNORED_FILES = frozenset({"thumbs.db", ".ds_store", "desktop.ini"})
_PACKED = frozenset({".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar", ".hdf5", ".h5"})
_HDF5 = (".hdf5", ".h5")


class FileIndex:
    """All files below a folder, found again by name whatever their case and depth.

    Archives are often unpacked twice (``X/X/...``) and their names change case on the way, so
    nothing here depends on either. What operating systems leave behind is not listed. Members of
    zip, tar and HDF5 files follow the other files, as ``archive.zip!/folder/a.jpg``; those that
    lie unpacked beside their archive too are not listed again.

    Parameters
    ----------
    root:
        The folder; or one archive, whose members alone are then listed; or a table, which stands
        for the folder that it lies in and is preferred to others of its name.

    Raises
    ------
    UserError
        If ``root`` does not exist, or holds no file.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        if self.root.is_file() and is_container(self.root):
            loose = [self.root.name]
            self.root = self.root.parent
        elif self.root.is_dir():
            loose = sorted(_walk(self.root))
        elif self.root.is_file():
            self.root, name = self.root.parent, self.root.name
            loose = [name, *sorted(file for file in _walk(self.root) if file != name)]
        else:
            raise UserError(
                f"There is no folder '{root}'.", "Give the folder of the images, a .zip or a .tar."
            )
        if not loose:
            raise UserError(f"The folder '{root}' is empty.", "Check the path.")
        packed, self._unread = _members(self.root, loose)
        self.files = loose + packed

    @cached_property
    def images(self) -> list[str]:
        """The files whose suffix is a picture's, relative to the root, those in archives last."""
        return [file for file in self.files if _is_image(file)]

    @cached_property
    def archives(self) -> list[str]:
        """The archives among the files that cannot be read in place: to be unpacked first."""
        packed = [file for file in self.files if PurePosixPath(file).suffix.lower() in _PACKED]
        return [file for file in packed if SEPARATOR in file or file in self._unread]

    def find(self, *patterns: str) -> list[str]:
        """Return the files whose name fits one of the patterns (``*`` and ``?``, any case)."""
        fits = re.compile("|".join(translate(pattern.lower()) for pattern in patterns)).match
        return [file for file in self.files if fits(_name(file))]

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
        ``nevus/1.jpg`` is never ``melanoma/1.jpg``. Members of archives count only where no other
        file fits.
        """
        name = name.replace("\\", "/").lstrip("/")
        if name in self._known:
            return [name]
        name = PurePosixPath(name).as_posix()
        folder = _folder(name)
        for key in (_name(name), _stem(name)):
            found = self._by_name.get(key, [])
            if folder:
                found = [file for file in found if f"/{_folder(file)}".endswith(f"/{folder}")]
            if found:
                return [file for file in found if SEPARATOR not in file] or found
        return []

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.images)

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = defaultdict(list)
        for file in self.images:
            for name in {_name(file), _stem(file)}:
                found[name].append(file)
        return dict(found)


def _name(file: str) -> str:
    return file.rpartition("/")[2].lower()


def _folder(file: str) -> str:
    return file.rpartition("/")[0].lower()


def folders(file: str) -> list[str]:
    """Return the folders that ``file`` of an index lies in; an archive is one, without suffix."""
    parts = PurePosixPath(file).parent.parts
    return [part[:-1].rpartition(".")[0] if is_container(part[:-1]) else part for part in parts]


def _is_image(file: str) -> bool:
    archive, separator, _ = file.rpartition(SEPARATOR)
    suffix = splitext(_name(file))[1]
    return suffix in IMAGE_SUFFIXES or (bool(separator) and archive.lower().endswith(_HDF5))


def _stem(file: str) -> str:
    name = _name(file)
    stem, suffix = splitext(name)
    return stem if suffix in IMAGE_SUFFIXES else name


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
        files += [(place / name).as_posix() for name in names if not _is_left_behind(name)]
    return files


def _is_left_behind(name: str) -> bool:
    return name.lower() in _IGNORED_FILES or name.startswith("._")


def _members(root: Path, files: list[str]) -> tuple[list[str], frozenset[str]]:
    """Return the members of all containers among ``files``, and the packed files without any."""
    found: list[str] = []
    unread = set()
    unpacked = {file.lower() for file in files}
    for file in files:
        if PurePosixPath(file).suffix.lower() not in _PACKED:
            continue
        try:
            inside = [name.rpartition(SEPARATOR)[2] for name in members(root / file)]
        except OSError:
            inside = []
        if not inside:
            unread.add(file)
        above, folder = file[: -len(PurePosixPath(file).name)], PurePosixPath(file).with_suffix("")
        for member in sorted(inside):
            twins = (f"{above}{member}".lower(), f"{folder}/{member}".lower())
            if _is_listed(member) and unpacked.isdisjoint(twins):
                found.append(f"{file}{SEPARATOR}{member}")
    return found, frozenset(unread)


def _is_listed(member: str) -> bool:
    """Whether a member is a publisher's file: names that lead outside are nobody's."""
    *above, name = member.split("/")
    return not (
        member.startswith("/")
        or ".." in (*above, name)
        or _is_left_behind(name)
        or any(folder.lower() in _IGNORED_FOLDERS for folder in above)
    )
