"""A manifest's labels as numbers: the y and n of Eq. 6 for any rows, without a Python loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dermino.data.manifest import Manifest


@dataclass(frozen=True)
class EncodedLabels:
    """The concepts of every row, in compressed sparse rows.

    Parameters
    ----------
    concepts:
        (K,) int32, the concepts of row 0, then of row 1, and so on; sorted and distinct in a row.
    offsets:
        (N + 1,) int64, where each row's concepts begin in ``concepts``.
    datasets:
        (N,) int32, each row's place in ``known``; -1 for a dataset the taxonomy does not hold.
    known:
        (datasets, C) bool, the concepts in each dataset's vocabulary.
    """

    concepts: np.ndarray
    offsets: np.ndarray
    datasets: np.ndarray
    known: np.ndarray

    def __len__(self) -> int:
        return len(self.datasets)

    @property
    def labelled(self) -> np.ndarray:
        """(N,) bool: rows with at least one concept."""
        return np.diff(self.offsets) > 0

    def targets(self, rows: np.ndarray | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return y and n of Eq. 6 for some rows, each (B, C) uint8."""
        rows = np.asarray(rows, dtype=np.int64)
        starts, counts = self.offsets[rows], np.diff(self.offsets)[rows]
        y = np.zeros((len(rows), self.known.shape[1]), dtype=np.uint8)
        owner = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        y[owner, self.concepts[np.repeat(starts, counts) + within]] = 1
        n = np.zeros_like(y)
        labelled = counts > 0
        n[labelled] = self.known[self.datasets[rows[labelled]]]
        return y, n


def encode_labels(
    manifest: Manifest,
    datasets: Sequence[str],
    known: np.ndarray,
    place: Callable[[str, str], int | None],
) -> EncodedLabels:
    """Translate a manifest's labels; see :meth:`dermino.knowledge.taxonomy.Taxonomy.encode`.

    ``place`` maps (label, dataset) to a concept or None, and is asked once for each pair.
    """
    of_row, row_datasets = _codes(manifest.table["dataset"])
    lists = manifest.table["labels"].combine_chunks()
    owner = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False)
    of_label, row_labels = _codes(pc.list_flatten(lists))
    pair = row_datasets[owner].astype(np.int64) * max(len(of_label), 1) + row_labels
    distinct, position = np.unique(pair, return_inverse=True)
    found = [
        place(of_label[code % len(of_label)], of_row[code // len(of_label)]) for code in distinct
    ]
    concept = np.array([-1 if item is None else item for item in found], dtype=np.int64)[position]
    keep = concept >= 0
    # One number for row and concept sorts by row and drops a concept that two labels share.
    width = known.shape[1]
    cells = np.unique(owner[keep].astype(np.int64) * width + concept[keep])
    counts = np.bincount(cells // width, minlength=len(manifest)) if width else np.zeros(0)
    places = {name: number for number, name in enumerate(datasets)}
    dataset_of_code = np.array([places.get(name, -1) for name in of_row], dtype=np.int32)
    return EncodedLabels(
        concepts=(cells % width).astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        datasets=dataset_of_code[row_datasets],
        known=known,
    )


def _codes(values: pa.Array | pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    encoded = values.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)
