"""A FAISS index that states how many of the true neighbours it finds.

Up to :data:`EXACT_AT_MOST` vectors every one is compared. Beyond that vectors are kept in eight
bits a dimension and grouped into inverted lists, of which a query looks at the nearest. How many
is chosen on sampled vectors, against exact search, when the index is built.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from dermino.errors import UserError
from dermino.files import atomic_path
from dermino.progress import console, track

EXACT_AT_MOST = 50_000
MEASURED_AT = 10
_QUERIES = 500
_TRAINING_ROWS_A_LIST = 40
_ITERATIONS = 10
_BLOCK_ROWS = 65_536
_LISTS_LOOKED_AT = (4, 8, 16, 32, 64, 128, 256, 512)


def load_faiss() -> ModuleType:
    """Import FAISS; a UserError names the extra where it is not installed."""
    try:
        import faiss
    except ImportError as error:
        raise UserError("FAISS is not installed.", "pip install 'dermino[search]'") from error
    return faiss


@dataclass(frozen=True)
class Search:
    """How an index is searched, and what that was measured to find.

    Parameters
    ----------
    kind:
        FAISS's name of the index.
    lists:
        Inverted lists looked at; 0 where every vector is compared.
    recall:
        Share of the true ten nearest that are found, mean over ``queries`` sampled vectors of the
        archive, each without itself. 1 where every vector is compared.
    queries:
        Vectors that ``recall`` was measured on.
    milliseconds:
        Median time of one query among them on the machine that built it, one at a time.
    """

    kind: str
    lists: int = 0
    recall: float = 1.0
    queries: int = 0
    milliseconds: float = float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


class VectorIndex:
    """Nearest vectors by cosine similarity.

    Parameters
    ----------
    index:
        A FAISS index of unit vectors, by inner product.
    search:
        How it is searched.
    """

    def __init__(self, index: Any, search: Search) -> None:
        self._index = index
        self.search_settings = search

    def __len__(self) -> int:
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """Length D of a vector."""
        return int(self._index.d)

    @classmethod
    def build(
        cls, vectors: np.ndarray, target_recall: float = 0.95, exact: bool = False, seed: int = 0
    ) -> VectorIndex:
        """Index vectors, and measure what is found.

        Parameters
        ----------
        vectors:
            Shape (n, D), float32, n at least 1; need not have unit length.
        target_recall:
            Recall of the ten nearest to reach with as little time as possible; what is reached is
            stated, even if it is less.
        exact:
            Compare every vector, however many there are.
        seed:
            Of the sampled vectors.
        """
        faiss = load_faiss()
        n, dimension = vectors.shape
        if exact or n <= EXACT_AT_MOST:
            flat = faiss.IndexFlatIP(dimension)
            _add(flat, vectors)
            return cls(flat, Search("Flat"))
        random = np.random.default_rng(seed)
        index, kind = _trained(vectors, random)
        _add(index, vectors)
        chosen = np.sort(random.choice(n, _QUERIES, replace=False))
        queries = _unit(vectors[chosen])
        truth = _exact_neighbours(queries, chosen, vectors)
        settings = Search(kind, queries=_QUERIES)
        for lists in _LISTS_LOOKED_AT:
            settings = _measured(cls(index, replace(settings, lists=lists)), queries, chosen, truth)
            console.print(
                f"{lists} lists: recall@{MEASURED_AT} {settings.recall:.3f}, "
                f"{settings.milliseconds:.1f} ms a query"
            )
            if settings.recall >= target_recall:
                break
        return cls(index, settings)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Find the nearest vectors.

        Parameters
        ----------
        queries:
            Shape (m, D), float32; need not have unit length.
        k:
            Results for each query; fewer where the index has fewer vectors.

        Returns
        -------
        tuple of np.ndarray
            Cosine similarities (m, k) float32, nearest first, and row numbers (m, k) int64.
        """
        k = min(k, len(self))
        if self.search_settings.lists == 0:
            return self._index.search(_unit(queries), k)
        parameters = load_faiss().SearchParametersIVF(nprobe=self.search_settings.lists)
        return self._index.search(_unit(queries), k, params=parameters)

    def write(self, path: Path) -> None:
        """Write the vectors in FAISS's own format, atomically."""
        with atomic_path(path) as temporary:
            load_faiss().write_index(self._index, str(temporary))

    @classmethod
    def read(cls, path: Path, search: Search) -> VectorIndex:
        """Read what :meth:`write` wrote.

        Raises
        ------
        UserError
            If the file is missing or damaged.
        """
        try:
            return cls(load_faiss().read_index(str(path)), search)
        except RuntimeError as error:
            raise UserError(
                f"'{path}' is missing or damaged.", "Build the index again: dermino search build"
            ) from error


def _trained(vectors: np.ndarray, random: np.random.Generator) -> tuple[Any, str]:
    """Learn lists from a sample, about twice the square root of n of them."""
    faiss = load_faiss()
    n, dimension = vectors.shape
    lists = 2 ** round(np.log2(2 * np.sqrt(n)))
    kind = f"IVF{lists},SQ8"
    index = faiss.index_factory(dimension, kind, faiss.METRIC_INNER_PRODUCT)
    index.cp.niter = _ITERATIONS
    sample = np.sort(random.choice(n, min(n, _TRAINING_ROWS_A_LIST * lists), replace=False))
    start = time.monotonic()
    index.train(_unit(vectors[sample]))
    seconds = time.monotonic() - start
    console.print(f"Learnt {lists} lists from {len(sample)} vectors: {seconds:.0f} s")
    return index, kind


def _add(index: Any, vectors: np.ndarray) -> None:
    for start in track(range(0, len(vectors), _BLOCK_ROWS), "Indexing vectors"):
        index.add(_unit(vectors[start : start + _BLOCK_ROWS]))


def _exact_neighbours(queries: np.ndarray, rows: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Find the true nearest of some of the vectors, each without itself: (m, 10) row numbers."""
    faiss = load_faiss()
    k = MEASURED_AT + 1
    heap = faiss.ResultHeap(len(queries), k, keep_max=True)
    for start in track(range(0, len(vectors), _BLOCK_ROWS), "Exact neighbours of sampled vectors"):
        block = _unit(vectors[start : start + _BLOCK_ROWS])
        similarities, found = faiss.knn(queries, block, k, metric=faiss.METRIC_INNER_PRODUCT)
        heap.add_result(similarities, found + start)
    heap.finalize()
    return _without(heap.I, rows)


def _measured(
    index: VectorIndex, queries: np.ndarray, rows: np.ndarray, truth: np.ndarray
) -> Search:
    found, seconds = [], []
    for query in queries:
        start = time.perf_counter()
        found.append(index.search(query[None], MEASURED_AT + 1)[1])
        seconds.append(time.perf_counter() - start)
    answers = _without(np.concatenate(found), rows)
    hits = [len(set(own) & set(true)) for own, true in zip(answers, truth, strict=True)]
    return replace(
        index.search_settings,
        recall=float(np.mean(hits)) / MEASURED_AT,
        milliseconds=1000 * float(np.median(seconds)),
    )


def _without(found: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Drop each query itself from what was found, or the last where it was not: one column less."""
    own = found == rows[:, None]
    own[~own.any(axis=1), -1] = True
    return found[~own].reshape(len(found), -1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.ascontiguousarray(vectors, np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
