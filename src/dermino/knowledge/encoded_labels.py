"""A manifest's labels as numbers: the y and n of Eq. 6 for any rows, without a Python loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dermino.data.manifest import Manifest
from dermino.knowledge.certainty import Certainty, label_weights
from dermino.knowledge.hierarchy import Hierarchy
from dermino.knowledge.sparse_rows import SparseRows


@dataclass(frozen=True)
class EncodedLabels:
    """What every row of a manifest says about the concepts.

    Parameters
    ----------
    present:
        The concepts of each row: its labels' and all broader ones.
    ignored:
        Concepts of the dataset's vocabulary that are neither present nor absent: those below a
        row's finest labels, and labels that are not sure enough.
    datasets:
        (N,) int32, each row's place in ``known``; -1 for a dataset the taxonomy does not hold.
    known:
        (datasets, C) bool, the concepts in each dataset's vocabulary.
    weights:
        (K,) float32, the target of each value of ``present``; None = 1 for all.
    """

    present: SparseRows
    ignored: SparseRows
    datasets: np.ndarray
    known: np.ndarray
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.datasets)

    @property
    def labelled(self) -> np.ndarray:
        """(N,) bool: rows with at least one concept."""
        return self.present.filled

    def targets(self, rows: np.ndarray | Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return y and n of Eq. 6 for some rows, each (B, C) uint8; y float32 if it is soft."""
        rows = np.asarray(rows, dtype=np.int64)
        owner, places = self.present.places(rows)
        shape = len(rows), self.known.shape[1]
        y = np.zeros(shape, dtype=np.uint8 if self.weights is None else np.float32)
        y[owner, self.present.values[places]] = 1 if self.weights is None else self.weights[places]
        n = np.zeros(shape, dtype=np.uint8)
        labelled = self.labelled[rows]
        n[labelled] = self.known[self.datasets[rows[labelled]]]
        owner, places = self.ignored.places(rows)
        n[owner, self.ignored.values[places]] = 0
        return y, n


def encode_labels(
    manifest: Manifest,
    datasets: Sequence[str],
    known: np.ndarray,
    place: Callable[[str, str], int | None],
    hierarchies: Mapping[str, Hierarchy],
    certainty: Certainty,
) -> EncodedLabels:
    """Translate a manifest's labels; see :meth:`dermino.knowledge.taxonomy.Taxonomy.encode`.

    ``place`` maps (label, dataset) to a concept or None, and is asked once for each pair.
    """
    of_row, row_datasets = _codes(manifest.table["dataset"])
    lists = manifest.table["labels"].combine_chunks()
    owner = pc.list_parent_indices(lists).to_numpy(zero_copy_only=False).astype(np.int64)
    of_label, row_labels = _codes(pc.list_flatten(lists))
    pair = row_datasets[owner].astype(np.int64) * max(len(of_label), 1) + row_labels
    distinct, position = np.unique(pair, return_inverse=True)
    found = [
        place(of_label[code % len(of_label)], of_row[code // len(of_label)]) for code in distinct
    ]
    concept = np.array([-1 if item is None else item for item in found], dtype=np.int64)[position]
    weight, sure = label_weights(manifest, lists, owner, certainty)

    # One number for row and concept sorts by row and finds a concept that two labels share.
    width = known.shape[1]
    named = owner * width + concept
    own, group = np.unique(named[sure & (concept >= 0)], return_inverse=True)
    own_weights = np.bincount(group, weight[sure & (concept >= 0)], len(own))
    empty = Hierarchy()
    of_code = [hierarchies.get(name, empty) for name in of_row]

    def related(cells: np.ndarray, broader: bool) -> tuple[np.ndarray, np.ndarray]:
        return _related(cells, width, row_datasets, of_code, broader)

    source, inherited = related(own, broader=True)
    cells, group = np.unique(np.concatenate([own, inherited]), return_inverse=True)
    below_weights = np.bincount(group[len(own) :], own_weights[source], len(cells))
    weights = np.maximum(np.bincount(group[: len(own)], own_weights, len(cells)), below_weights)
    _, unknown = related(np.setdiff1d(cells, inherited), broader=False)
    unsure = named[~sure & (concept >= 0)]
    ignored = np.setdiff1d(np.concatenate([unknown, unsure]), cells)

    places = {name: number for number, name in enumerate(datasets)}
    dataset_of_code = np.array([places.get(name, -1) for name in of_row], dtype=np.int32)
    return EncodedLabels(
        present=SparseRows.from_cells(cells, width, len(manifest)),
        ignored=SparseRows.from_cells(ignored, width, len(manifest)),
        datasets=dataset_of_code[row_datasets],
        known=known,
        weights=np.clip(weights, 0, 1).astype(np.float32) if certainty.soft else None,
    )


def _related(
    cells: np.ndarray,
    width: int,
    row_datasets: np.ndarray,
    of_code: Sequence[Hierarchy],
    broader: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the cells above (or below) some cells, and of which cell each one is."""
    if not len(cells):
        return cells, cells
    pair = row_datasets[cells // width].astype(np.int64) * width + cells % width
    distinct, position = np.unique(pair, return_inverse=True)
    found = []
    for code in distinct:
        hierarchy = of_code[code // width]
        found.append((hierarchy.above if broader else hierarchy.below)(int(code % width)))
    rows = SparseRows(
        np.concatenate(found), np.concatenate([[0], np.cumsum([len(item) for item in found])])
    )
    source, places = rows.places(position)
    return source, cells[source] // width * width + rows.values[places]


def _codes(values: pa.Array | pa.ChunkedArray) -> tuple[list[str], np.ndarray]:
    encoded = values.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)
