"""What the ``image`` column of a manifest may point at, and how its bytes are had.

``photos/a.jpg`` is a file; ``photos.zip!/a.jpg``, ``photos.tar!/a.jpg`` and ``photos.hdf5!/a`` are
members of a container; an fsspec URL such as ``s3://bucket/shard-000000.tar!/a.jpg`` is either.
Nothing is ever written to disk, so no name can lead outside a folder.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

import fsspec

from dermino.data.containers import (
    INDEX_SUFFIX,
    Container,
    ContainerError,
    Hdf5Container,
    OpenFile,
    Ranges,
    TarContainer,
    TarIndex,
    ZipContainer,
)

Reference: TypeAlias = str | Path

SEPARATOR = "!/"
_MEMBER = re.compile(r"(.+?\.(zip|tar|hdf5|h5|tar\.\w+|tgz|tbz2?|txz))!/(.+)", re.I | re.S)
_CONTAINER = re.compile(r".+\.(zip|tar|hdf5|h5)", re.I | re.S)
URL_PATTERN = r"^[A-Za-z][A-Za-z0-9+.:-]+://"
_URL = re.compile(URL_PATTERN)
_OPEN_AT_ONCE = 128
_INDEXED_AT_ONCE = 4096

# What tells that a container is no longer the one that was opened.
_Stamp = tuple[int, int]


def is_url(reference: Reference) -> bool:
    """Whether a reference is an fsspec URL."""
    return isinstance(reference, str) and _URL.match(reference) is not None


def is_container(path: Reference) -> bool:
    """Whether a file is by its suffix one whose members can be read in place."""
    return _CONTAINER.fullmatch(os.fspath(path)) is not None


def locate(root: Path, name: str) -> Reference:
    """Return where ``name``, as a manifest has it, lies: below ``root``, or at its URL."""
    return name if is_url(name) else root / name


def exists(reference: Reference) -> bool:
    """Whether there is something to read; containers are opened for it, but no image is read."""
    return size_and_date(reference) is not None


def size_and_date(reference: Reference) -> tuple[int, int] | None:
    """Return bytes and a number that changes with the content, or None where nothing can be read.

    The number is the modification time in nanoseconds, for a member that of its container; of a
    URL it is made from what the storage tells, such as an ETag.
    """
    try:
        name, member = _split(reference)
        if member is None:
            return _stamp(name)
        return _container(name).size(member), stamp(name)[1]
    except OSError:
        return None


def read(reference: Reference) -> bytes:
    """Return all bytes of a reference.

    Raises
    ------
    OSError
        A FileNotFoundError where there is none; others say in ``strerror`` what is wrong.
    """
    name, member = _split(reference)
    if member is not None:
        return _container(name).read(member)
    if not is_url(name):
        return Path(name).read_bytes()
    files, path = fsspec.url_to_fs(name)
    return bytes(files.cat_file(path))


def open_binary(reference: Reference) -> BinaryIO:
    """Open a reference for reading, for libraries that read tables; errors as for :func:`read`."""
    name, member = _split(reference)
    if member is None and not is_url(name):
        return open(name, "rb")
    return io.BytesIO(read(reference))


def members(container: Reference) -> list[str]:
    """Return the references of all that lies in a container.

    Raises
    ------
    OSError
        If it is no container, damaged, or encrypted.
    """
    opened = _container(os.fspath(container))
    if isinstance(opened, ZipContainer) and opened.encrypted:
        raise ContainerError("it is encrypted")
    return [f"{os.fspath(container)}{SEPARATOR}{member}" for member in opened.members()]


def container_of(reference: Reference) -> str | None:
    """Return the container that a reference names a member of, if it does."""
    name, member = _split(reference)
    return None if member is None else name


def stamp(name: str) -> _Stamp:
    """Return size and date of a file; those of a URL are asked for once.

    Raises
    ------
    OSError
        If there is no such file.
    """
    return _remote_stamp(name) if is_url(name) else _stamp(name)


def _split(reference: Reference) -> tuple[str, str | None]:
    """Return the file and, where the reference goes on, the member."""
    text = reference if isinstance(reference, str) else reference.as_posix()
    found = _MEMBER.fullmatch(text) if SEPARATOR in text else None
    return (found[1], found[3]) if found else (text, None)


def _stamp(name: str) -> _Stamp:
    if not is_url(name):
        status = os.stat(name)
        if not os.path.isfile(name):
            raise FileNotFoundError(name)
        return status.st_size, status.st_mtime_ns
    files, path = fsspec.url_to_fs(name)
    size = files.info(path).get("size") or 0
    digest = hashlib.blake2b(str(files.ukey(path)).encode(), digest_size=7).digest()
    return size, int.from_bytes(digest, "little")


@lru_cache(maxsize=_INDEXED_AT_ONCE)
def _remote_stamp(name: str) -> _Stamp:
    # Asked once: a request for every image would cost as much as the image.
    return _stamp(name)


def _container(name: str) -> Container:
    return _opened(name, stamp(name))


@lru_cache(maxsize=_OPEN_AT_ONCE)
def _opened(name: str, stamp: _Stamp) -> Container:
    """Open a container; those not used for longest are closed by the garbage collector."""
    suffix = name.lower().rpartition(".")[2]
    if suffix == "tar":
        return TarContainer(_ranges(name), _tar_index(name, stamp))
    opener = _OPENERS.get(suffix)
    if opener is None:
        raise ContainerError("a compressed tar cannot be read at random: unpack it")
    file = _open(name)
    try:
        return opener(file)
    except BaseException:
        file.close()
        raise


_OPENERS: dict[str, Callable[[BinaryIO], Container]] = {
    "zip": ZipContainer,
    "hdf5": Hdf5Container,
    "h5": Hdf5Container,
}

# Open files share their position with the process they were inherited from. Indices hold none.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_opened.cache_clear)


@lru_cache(maxsize=_INDEXED_AT_ONCE)
def _tar_index(name: str, stamp: _Stamp) -> TarIndex:
    """Return the index that lies beside a tar file, or make one from the file's headers."""
    beside = name[: -len(".tar")] + INDEX_SUFFIX
    try:
        return TarIndex.parse(read(beside).decode(errors="replace"))
    except (FileNotFoundError, ContainerError):
        with _open(name) as file:
            return TarIndex.scan(file)


def _open(name: str) -> BinaryIO:
    if not is_url(name):
        return open(name, "rb")
    files, path = fsspec.url_to_fs(name)
    return cast(BinaryIO, files.open(path, "rb"))


def _ranges(name: str) -> Ranges:
    return _UrlRanges(name) if is_url(name) else OpenFile(_open(name))


class _UrlRanges:
    """Ranges of a file behind a URL, a request for each."""

    def __init__(self, url: str) -> None:
        self._url = url

    def read(self, start: int, stop: int) -> bytes:
        # Looked up each time: fsspec keeps connections apart for each process.
        files, path = fsspec.url_to_fs(self._url)
        return bytes(files.cat_file(path, start=start, end=stop))
