"""Content digests of files; a file is read again only when its size or date has changed."""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

from dermino.data.images import read_bytes
from dermino.data.reference import Reference, is_url, size_and_date
from dermino.errors import UserError
from dermino.progress import track

DIGEST_BYTES = 16
_QUERY_ROWS = 500
_COMMIT_ROWS = 2000
_READERS = 8


class DigestIndex:
    """Remembers the digest of every file it has read.

    The index stores hashes of paths, never paths, so that a file name that identifies a patient
    does not end up in a cache folder. Several processes may use it at once.

    Parameters
    ----------
    path:
        The SQLite file; created when absent.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with self._open() as connection, connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, size INTEGER, "
                "modified INTEGER, digest BLOB) WITHOUT ROWID"
            )

    def digests(self, paths: Sequence[Reference]) -> np.ndarray:
        """Return the BLAKE2b digest of every file's bytes, shape (n, 16), uint8.

        Raises
        ------
        UnreadableImage
            For a file that is missing, empty or may not be read.
        UserError
            If the index is damaged or its disk is full.
        """
        result = np.zeros((len(paths), DIGEST_BYTES), np.uint8)
        keys = [_key(path) for path in paths]
        with self._open() as connection:
            stored = _stored(connection, keys)
            changed = []
            for row, (path, key) in enumerate(zip(paths, keys, strict=True)):
                size, modified, digest = stored.get(key, (None, None, b""))
                if size is not None and (size, modified) == size_and_date(path):
                    result[row] = np.frombuffer(digest, np.uint8)
                else:
                    changed.append(row)
            for rows, entries in _read([paths[row] for row in changed], changed):
                result[rows] = [np.frombuffer(entry[2], np.uint8) for entry in entries]
                with connection:
                    connection.executemany(
                        "INSERT OR REPLACE INTO files VALUES (?, ?, ?, ?)",
                        [(keys[row], *entry) for row, entry in zip(rows, entries, strict=True)],
                    )
        return result

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self.path, timeout=60)) as connection:
                yield connection
        except sqlite3.Error as error:
            raise UserError(
                f"The cache's index '{self.path}' cannot be used: {error}.",
                "Make room or choose another --cache; if it is damaged, remove the file: "
                "that costs only time.",
            ) from error


def _key(path: Reference) -> bytes:
    name = path if is_url(path) else Path(path).absolute()
    return hashlib.blake2b(os.fsencode(name), digest_size=DIGEST_BYTES).digest()


def _stored(connection: sqlite3.Connection, keys: list[bytes]) -> dict[bytes, tuple]:
    found = {}
    for start in range(0, len(keys), _QUERY_ROWS):
        chunk = keys[start : start + _QUERY_ROWS]
        marks = ",".join("?" * len(chunk))
        query = f"SELECT path, size, modified, digest FROM files WHERE path IN ({marks})"
        found.update({row[0]: row[1:] for row in connection.execute(query, chunk)})
    return found


def _read(
    paths: list[Reference], rows: list[int]
) -> Iterator[tuple[list[int], list[tuple[int, int, bytes]]]]:
    """Yield rows and their (size, date, digest), a few thousand at a time."""
    starts = range(0, len(paths), _COMMIT_ROWS)
    with ThreadPoolExecutor(_READERS) as pool:
        for start in track(starts, "Reading files") if len(starts) > 1 else starts:
            chunk = slice(start, start + _COMMIT_ROWS)
            yield rows[chunk], list(pool.map(_entry, paths[chunk]))


def _entry(path: Reference) -> tuple[int, int, bytes]:
    # The date is taken before the bytes: a file changed in between is read again next time.
    before = size_and_date(path)
    data = read_bytes(path)
    digest = hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()
    size, modified = before or (0, 0)
    return size, modified, digest
