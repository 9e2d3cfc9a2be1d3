"""Files that hold many images: zip, uncompressed tar and HDF5, read at random without unpacking."""

from __future__ import annotations

import posixpath
import tarfile
import threading
import weakref
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import BinaryIO, Protocol

import numpy as np

INDEX_SUFFIX = ".idx"
_BLOCK = 512  # bytes, of a tar header.
_NAME_BYTES = 100  # at the start of a tar header.


class ContainerError(OSError):
    """A container that is damaged, compressed, encrypted or needs a library that is not there."""

    def __init__(self, reason: str) -> None:
        super().__init__(0, reason)


class Container(Protocol):
    """One open container; several threads may read from it."""

    def members(self) -> list[str]:
        """The names of what can be read from it, as they are stored."""
        ...

    def size(self, member: str) -> int:
        """Bytes of a member; a FileNotFoundError where there is none of that name."""
        ...

    def read(self, member: str) -> bytes:
        """A member's bytes; a FileNotFoundError where there is none of that name."""
        ...


class Ranges(Protocol):
    """Something of which any range of bytes can be had, by several threads at once."""

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` to before ``stop``; fewer where it ends."""
        ...


class OpenFile:
    """The ranges of an open file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._lock = file, threading.Lock()
        weakref.finalize(self, file.close)

    def read(self, start: int, stop: int) -> bytes:
        """The bytes from ``start`` to before ``stop``; fewer where it ends."""
        with self._lock:
            self._file.seek(start)
            return self._file.read(stop - start)


class ZipContainer:
    """The members of a zip file."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            self._zip = zipfile.ZipFile(file)
        except (zipfile.BadZipFile, ValueError) as error:
            raise ContainerError(f"it is not a whole zip file: {error}") from error
        weakref.finalize(self, file.close)

    @cached_property
    def _entries(self) -> dict[str, zipfile.ZipInfo]:
        entries = [entry for entry in self._zip.infolist() if not entry.is_dir()]
        return {posixpath.normpath(entry.filename): entry for entry in entries}

    @property
    def encrypted(self) -> bool:
        """Whether a member can only be read with a password."""
        return any(entry.flag_bits & 1 for entry in self._entries.values())

    def members(self) -> list[str]:
        """The names of what can be read from it."""
        return list(self._entries)

    def size(self, member: str) -> int:
        """Bytes of a member."""
        return self._entry(member).file_size

    def read(self, member: str) -> bytes:
        """A member's bytes, checked against its check-sum."""
        entry = self._entry(member)
        try:
            return self._zip.read(entry)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ContainerError(f"damaged in the zip file: {error}") from error
        except (NotImplementedError, RuntimeError) as error:
            raise ContainerError(f"{error}; unpack the zip file") from error

    def _entry(self, member: str) -> zipfile.ZipInfo:
        try:
            return self._entries[member]
        except KeyError:
            raise FileNotFoundError(member) from None


@dataclass(frozen=True)
class TarIndex:
    """Where the members of a tar file lie, in 16 bytes a member and their names.

    Parameters
    ----------
    names:
        UTF-8, sorted, shape (n,), bytes.
    starts, sizes:
        First byte and length of each, shape (n,), int64.
    """

    names: np.ndarray
    starts: np.ndarray
    sizes: np.ndarray

    @classmethod
    def of(cls, entries: Iterable[tuple[str, int, int]]) -> TarIndex:
        """Build it from (name, start, size); of members with one name the last one counts."""
        by_name = {name.encode(): (start, size) for name, start, size in entries}
        names = np.array(sorted(by_name), dtype=bytes)
        places = np.array([by_name[name] for name in names.tolist()], np.int64).reshape(-1, 2)
        return cls(names, places[:, 0].copy(), places[:, 1].copy())

    @classmethod
    def scan(cls, file: BinaryIO) -> TarIndex:
        """Read all headers of a tar file."""
        try:
            with tarfile.open(fileobj=file, mode="r:") as tar:
                return cls.of(
                    (posixpath.normpath(entry.name), entry.offset_data, entry.size)
                    for entry in tar
                    if entry.isreg() and not entry.issparse()
                )
        except tarfile.TarError as error:
            raise ContainerError(f"it is not a whole tar file: {error}") from error

    @classmethod
    def parse(cls, text: str) -> TarIndex:
        """Read an index in the format of DALI's ``wds2idx``, version 1.2.

        Each line holds, for the components of one sample, suffix, start, size and name.
        """
        lines = text.splitlines()
        if not lines or lines[0] != f"v1.2 {len(lines) - 1}":
            raise ContainerError("its index is cut, or not in version 1.2 of the format")
        entries = []
        try:
            for line in lines[1:]:
                words = line.split(" ")
                for start, size, name in zip(words[1::4], words[2::4], words[3::4], strict=True):
                    entries.append((name, int(start), int(size)))
        except ValueError as error:
            raise ContainerError(f"its index is damaged: {error}") from error
        return cls.of(entries)

    def find(self, member: str) -> tuple[int, int]:
        """Start and size of a member; a FileNotFoundError where there is none of that name."""
        name = member.encode()
        place = int(np.searchsorted(self.names, name))
        if place == len(self.names) or self.names[place] != name:
            raise FileNotFoundError(member)
        return int(self.starts[place]), int(self.sizes[place])


class TarContainer:
    """The members of an uncompressed tar file."""

    def __init__(self, ranges: Ranges, index: TarIndex) -> None:
        self._ranges, self._index = ranges, index

    def members(self) -> list[str]:
        """The names of what can be read from it."""
        return [name.decode() for name in self._index.names.tolist()]

    def size(self, member: str) -> int:
        """Bytes of a member."""
        return self._index.find(member)[1]

    def read(self, member: str) -> bytes:
        """A member's bytes, after making sure that they are the ones of that name."""
        start, size = self._index.find(member)
        data = self._ranges.read(start - _BLOCK, start + size)
        if len(data) > _BLOCK + size:
            raise ContainerError(
                "its server ignores byte ranges and sends the whole tar file for each image: let "
                "data.cache=FOLDER fetch it once, or use a server that knows ranges"
            )
        # Another tar file under an old index would give other images without a word.
        stored = data[:_NAME_BYTES].rstrip(b"\0").decode(errors="replace")
        if len(data) < _BLOCK + size or not _may_be(stored, member):
            raise ContainerError("the tar file has changed since it was indexed, or is cut")
        return data[_BLOCK:]


class Hdf5Container:
    """The data sets of an HDF5 file, each the bytes of one encoded image, as ISIC 2024 ships."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            import h5py
        except ImportError as error:
            raise ContainerError("h5py is needed: pip install 'dermino[hdf5]'") from error
        try:
            self._file = h5py.File(file, "r")
        except OSError as error:
            raise ContainerError(f"it is not a whole HDF5 file: {error}") from error
        # Left open, HDF5 closes it after Python has ended, through Python, and crashes.
        weakref.finalize(self, self._file.close)
        self._is_dataset = lambda item: isinstance(item, h5py.Dataset)

    def members(self) -> list[str]:
        """The names of the data sets at the top; those in groups can be read, but are not listed.

        Only the first is looked at: files with weights have groups there.
        """
        names = list(self._file)
        return names if names and self._is_dataset(self._file[names[0]]) else []

    def size(self, member: str) -> int:
        """Bytes of a data set."""
        return int(np.asarray(self._dataset(member)).nbytes)

    def read(self, member: str) -> bytes:
        """The bytes of a data set: a scalar string or opaque value, or an array of bytes."""
        return np.asarray(self._dataset(member)).tobytes()

    def _dataset(self, member: str) -> np.ndarray | np.void | bytes:
        try:
            item = self._file[member]
        except KeyError:
            raise FileNotFoundError(member) from None
        if not self._is_dataset(item):
            raise FileNotFoundError(member)
        try:
            return item[()]
        except OSError as error:
            raise ContainerError(f"damaged in the HDF5 file: {error}") from error


def _may_be(stored: str, member: str) -> bool:
    """Whether a header's name, cut or with ``./`` before it, may be that of ``member``."""
    name = posixpath.normpath(stored)
    return member == name or member.endswith(f"/{name}") or len(stored) >= _NAME_BYTES - 1
