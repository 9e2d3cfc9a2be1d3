"""Similar-image search over many vectors: time a query, recall, memory, time to build.

Run: python benchmarks/search.py [--n 1000000] [--dimension 768] [--clusters 10000] [--out FILE]
Vectors are drawn around cluster centres; centres and deviations have a power-law spectrum, as the
features of vision transformers do. Queries are drawn anew from the same clusters, asked one by one,
and compared with exact search.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from dermino.search.index import VectorIndex, load_faiss

K = 10
QUERIES = 1000
_BLOCK = 50_000


def clustered(
    n: int, centres: np.ndarray, spectrum: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """Draw ``n`` vectors around centres, block by block so that no second copy is made."""
    vectors = np.empty((n, len(spectrum)), np.float32)
    for start in range(0, n, _BLOCK):
        part = vectors[start : start + _BLOCK]
        random.standard_normal(part.shape, dtype=np.float32, out=part)
        part *= 0.6 * spectrum
        part += centres[random.integers(0, len(centres), len(part))]
    return vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--clusters", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--recall", type=float, default=0.95)
    options = parser.parse_args()
    faiss = load_faiss()
    faiss.omp_set_num_threads(options.threads)

    random = np.random.default_rng(0)
    spectrum = np.arange(1, options.dimension + 1, dtype=np.float32) ** -0.75
    shape = (options.clusters, options.dimension)
    centres = random.standard_normal(shape, dtype=np.float32) * spectrum
    vectors = clustered(options.n, centres, spectrum, random)
    queries = clustered(QUERIES, centres, spectrum, random)

    start = time.perf_counter()
    index = VectorIndex.build(vectors, options.recall)
    print(f"built in {time.perf_counter() - start:.0f} s: {index.search_settings}")

    seconds: dict[int, list[float]] = {}
    for threads in sorted({1, options.threads}):
        faiss.omp_set_num_threads(threads)
        found, seconds[threads] = [], []
        before = time.process_time()
        for query in queries:
            start = time.perf_counter()
            found.append(index.search(query[None], K)[1][0])
            seconds[threads].append(time.perf_counter() - start)
        cpu = 1000 * (time.process_time() - before) / QUERIES
        median, late = 1000 * np.percentile(seconds[threads], [50, 95])
        print(
            f"{threads} threads: median {median:.1f} ms a query, 95th percentile {late:.1f} ms, "
            f"CPU time {cpu:.1f} ms"
        )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.faiss"
        index.write(path)
        size = path.stat().st_size
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    truth = np.empty((QUERIES, K), np.int64)
    best = np.full((QUERIES, K), -np.inf, np.float32)
    for first in range(0, options.n, _BLOCK):
        block = vectors[first : first + _BLOCK]
        block = block / np.linalg.norm(block, axis=1, keepdims=True)
        similarities, rows = faiss.knn(unit, block, K, metric=faiss.METRIC_INNER_PRODUCT)
        both, all_rows = np.hstack([best, similarities]), np.hstack([truth, rows + first])
        order = np.argsort(-both, axis=1)[:, :K]
        best, truth = (np.take_along_axis(values, order, 1) for values in (both, all_rows))
    hits = [len(set(own) & set(true)) / K for own, true in zip(found, truth, strict=True)]
    for name, value in (
        (f"recall@{K} of new queries", np.mean(hits)),
        ("index on disk, GB", size / 1e9),
        (
            "peak memory with the vectors, GB",
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        ),
    ):
        print(f"{name}: {value:.3f}")


if __name__ == "__main__":
    main()
