"""Features on disk, by encoder and image content: what was computed once is never computed again.

A cache is a folder: ``digests.sqlite`` (:class:`dermino.evaluate.digest_index.DigestIndex`) and,
for each encoder identity, safetensors shards that are only ever added. A shard is written whole or
not at all under a name of its own, so processes that write at the same time cannot harm each
other; at worst both compute the same feature.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from dermino.data.reference import Reference
from dermino.errors import UserError
from dermino.evaluate.digest_index import DigestIndex
from dermino.files import atomic_path, writable_folder
from dermino.progress import console

ENVIRONMENT_VARIABLE = "DERMINO_CACHE"
_SHARD_ROWS = 512


def default_cache() -> Path:
    """Return ``$DERMINO_CACHE``, or the folder ``dermino`` in the user's cache folder."""
    if chosen := os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(chosen)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "dermino"


class FeatureCache:
    """Features that survive the process.

    Parameters
    ----------
    folder:
        Where to keep them. Default: :func:`default_cache`.

    Raises
    ------
    UserError
        If the folder cannot be written to.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        try:
            self.folder = writable_folder(folder or default_cache())
        except UserError as error:
            remedy = f"Choose another folder with --cache or {ENVIRONMENT_VARIABLE}."
            raise UserError(error.message, remedy) from error
        self._index = DigestIndex(self.folder / "digests.sqlite")

    def digests(self, paths: Sequence[Reference]) -> np.ndarray:
        """Return the content digests of files, shape (n, 16), uint8."""
        return self._index.digests(paths)

    def missing(self, identity: str, digests: np.ndarray) -> np.ndarray:
        """Tell which images have no feature of this encoder yet, shape (n,), bool."""
        known: set[bytes] = set()
        for shard in self._shards(identity):
            known.update(_keys(_read(shard, "digests")))
        return np.array([key not in known for key in _keys(digests)], bool)

    def read(self, identity: str, digests: np.ndarray) -> np.ndarray:
        """Return the features of images, shape (n, D), float32.

        Raises
        ------
        KeyError
            If one of them is not in the cache.
        """
        rows: dict[bytes, list[int]] = {}
        for row, key in enumerate(_keys(digests)):
            rows.setdefault(key, []).append(row)
        features: np.ndarray | None = None
        for shard in self._shards(identity):
            keys = _keys(_read(shard, "digests"))
            held = [(at, rows.pop(key)) for at, key in enumerate(keys) if key in rows]
            if held:
                values = _read(shard, "features")
                if features is None:
                    features = np.empty((len(digests), values.shape[1]), np.float32)
                for at, targets in held:
                    features[targets] = values[at]
        if rows or features is None:
            raise KeyError(f"{len(rows)} images have no feature of encoder {identity}")
        return features

    def writer(self, identity: str) -> FeatureWriter:
        """Return a writer that adds features of one encoder."""
        return FeatureWriter(self.folder / "features" / identity)

    def _shards(self, identity: str) -> list[Path]:
        shards = sorted((self.folder / "features" / identity).glob("*.safetensors"))
        return [shard for shard in shards if _is_readable(shard)]


class FeatureWriter:
    """Gathers features and writes a shard every few hundred, and one at the end or on an error.

    Parameters
    ----------
    folder:
        The folder of one encoder identity.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digests: list[np.ndarray] = []
        self._features: list[np.ndarray] = []

    def add(self, digests: np.ndarray, features: np.ndarray) -> None:
        """Add a batch: digests (B, 16) uint8, features (B, D) float32."""
        self._digests.append(digests)
        self._features.append(features.astype(np.float32, copy=False))
        if sum(map(len, self._digests)) >= _SHARD_ROWS:
            self.flush()

    def flush(self) -> None:
        """Write what has been gathered."""
        if not self._digests:
            return
        shard = {
            "digests": np.concatenate(self._digests),
            "features": np.concatenate(self._features),
        }
        with atomic_path(self._folder / f"{secrets.token_hex(8)}.safetensors") as temporary:
            save_file(shard, temporary)
        self._digests.clear()
        self._features.clear()

    def __enter__(self) -> FeatureWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.flush()


def _keys(digests: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in digests]


def _read(shard: Path, name: str) -> np.ndarray:
    with safe_open(shard, framework="numpy") as file:
        return file.get_tensor(name)


def _is_readable(shard: Path) -> bool:
    try:
        with safe_open(shard, framework="numpy") as file:
            return {"digests", "features"} <= set(file.keys())
    except (SafetensorError, OSError) as error:
        console.print(f"Ignoring the damaged cache file {shard}: {error}")
        return False
