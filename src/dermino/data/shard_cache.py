"""Whole shards from behind URLs, kept in a folder for as long as there is room."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import fsspec
from filelock import FileLock

from dermino.data.containers import INDEX_SUFFIX
from dermino.data.reference import SEPARATOR, Reference, container_of, is_url, read, stamp
from dermino.files import atomic_path, writable_folder

_INCOMPLETE = (".lock", ".tmp", INDEX_SUFFIX)


class ShardCache:
    """Fetches a shard when one of its images is first asked for; all processes share it.

    Parameters
    ----------
    folder:
        Where shards are kept; they stay there for the next run.
    limit_gib:
        Those unused for longest are removed when they are more than this; the one in use stays.

    Raises
    ------
    UserError
        If the folder cannot be written to.
    """

    def __init__(self, folder: str | Path, limit_gib: float) -> None:
        self.folder, self.limit = writable_folder(folder), int(limit_gib * 2**30)

    def read(self, reference: Reference) -> bytes:
        """Return the bytes of a reference, those in shards behind URLs from the copy here.

        Raises
        ------
        OSError
            As :func:`dermino.data.reference.read`.
        """
        url = container_of(reference)
        if url is None or not is_url(url):
            return read(reference)
        member = str(reference)[len(url) + len(SEPARATOR) :]
        copy = self._copy(url)
        try:
            return read(Path(f"{copy}{SEPARATOR}{member}"))
        except FileNotFoundError:  # Another process has just made room.
            return read(reference)

    def _copy(self, url: str) -> Path:
        digest = hashlib.blake2b(f"{url} {stamp(url)}".encode(), digest_size=8).hexdigest()
        copy = self.folder / f"{digest}-{url.rpartition('/')[2]}"
        if not _use(copy):
            with FileLock(f"{copy}.lock"):
                if not _use(copy):
                    _fetch(url, copy)
                    self._make_room(copy)
        return copy

    def _make_room(self, newest: Path) -> None:
        shards = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):  # Another process makes room too.
                if path.suffix not in _INCOMPLETE:
                    status = path.stat()
                    shards.append((status.st_mtime_ns, status.st_size, path))
        kept = sum(size for _, size, _ in shards)
        for _, size, path in sorted(shards):
            if kept <= self.limit or path == newest:
                break
            path.unlink(missing_ok=True)
            path.with_suffix(INDEX_SUFFIX).unlink(missing_ok=True)
            kept -= size


def reader(folder: str | Path | None, limit_gib: float) -> Callable[[Reference], bytes]:
    """Return what reads the bytes of references: through a cache where a folder for it is named."""
    return ShardCache(folder, limit_gib).read if folder else read


def _use(copy: Path) -> bool:
    """Mark a copy as just used; False where there is none."""
    try:
        os.utime(copy)
    except FileNotFoundError:
        return False
    return True


def _fetch(url: str, copy: Path) -> None:
    files, path = fsspec.url_to_fs(url)
    index = path.rpartition(".")[0] + INDEX_SUFFIX
    # The shard comes last: where it lies, its index lies too.
    if files.exists(index):
        with atomic_path(copy.with_suffix(INDEX_SUFFIX), sync=False) as temporary:
            files.get_file(index, str(temporary))
    with atomic_path(copy, sync=False) as temporary:
        files.get_file(path, str(temporary))
