"""How long the search for same pictures takes among a million, in how much memory.

    python benchmarks/audit.py [hashes] [features] [--images 1000000] [--dim 384] [--distance 28]

Hashes and features are drawn: clusters of similar ones, and a thousand planted copies each, of
which the share found is printed. Each search runs in a process of its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

_PLANTED = 1000
_CLUSTERS = 2000
_NOISE = 0.35
_COSINE = 0.98


def search_hashes(images: int, distance: int, folder: Path) -> None:
    from dermino.audit.hash_search import near_hashes

    random = np.random.default_rng(0)
    centres = random.integers(0, 256, (_CLUSTERS, 32), dtype=np.uint8)
    hashes = np.empty((images, 32), np.uint8)
    for start in range(0, images, 2**16):
        rows = slice(start, min(start + 2**16, images))
        number = rows.stop - start
        flipped = np.packbits(random.random((number, 256), np.float32) < _NOISE, axis=1)
        hashes[rows] = centres[random.integers(0, _CLUSTERS, number)] ^ flipped
    copied = random.choice(images // 2, _PLANTED, replace=False)
    for row in copied:
        bits = np.zeros(256, np.uint8)
        bits[random.choice(256, random.integers(0, distance + 1), replace=False)] = 1
        hashes[row + images // 2] = hashes[row] ^ np.packbits(bits)
    _report("hashes", lambda: near_hashes(hashes, distance, folder), copied, images)


def search_features(images: int, dim: int, folder: Path) -> None:
    from dermino.audit.vector_search import near_vectors

    random = np.random.default_rng(0)
    centres = random.standard_normal((_CLUSTERS, dim), np.float32)
    vectors = random.standard_normal((images, dim), np.float32)
    for start in range(0, images, 2**16):
        part = vectors[start : start + 2**16]
        part += centres[random.integers(0, _CLUSTERS, len(part))]
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    copied = random.choice(images // 2, _PLANTED, replace=False)
    noise = random.standard_normal((_PLANTED, dim), np.float32) * (0.1 / np.sqrt(dim))
    copies = vectors[copied] + noise
    vectors[copied + images // 2] = copies / np.linalg.norm(copies, axis=1, keepdims=True)
    _report("features", lambda: near_vectors(vectors, _COSINE, folder), copied, images)


def _report(name: str, search: Callable[[], pd.DataFrame], copied: np.ndarray, images: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    start, cpu = time.perf_counter(), time.process_time()
    pairs = search()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    planted = {(int(row), int(row) + images // 2) for row in copied}
    found = len(planted & set(zip(pairs["a"], pairs["b"], strict=True)))
    print(
        f"{name}: {seconds:.0f} s, {cpu:.0f} s of CPU, peak {peak:.1f} GiB ({before:.1f} before), "
        f"{len(pairs):,} pairs, {found} of {_PLANTED} copies",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("searches", nargs="*", default=["hashes", "features"])
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--distance", type=int, default=28)
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        known = {
            "hashes": (search_hashes, options.distance),
            "features": (search_features, options.dim),
        }
        for search, size in (known[name] for name in options.searches):
            process = spawn.Process(target=search, args=(options.images, size, Path(folder)))
            process.start()
            process.join()


if __name__ == "__main__":
    main()
