"""Sets of concepts for millions of rows, in compressed sparse rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class SparseRows:
    """A set of concepts for each row.

    Parameters
    ----------
    values:
        (K,) int32, the concepts of row 0, then of row 1, and so on; sorted and distinct in a row.
    offsets:
        (N + 1,) int64, where each row's concepts begin in ``values``.
    """

    values: np.ndarray
    offsets: np.ndarray

    @classmethod
    def from_cells(cls, cells: np.ndarray, width: int, rows: int) -> SparseRows:
        """Build from sorted distinct numbers ``row * width + concept``."""
        counts = np.bincount(cells // width, minlength=rows) if width else np.zeros(rows)
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        values = cells % width if width else cells
        return cls(values.astype(np.int32), offsets)

    @property
    def filled(self) -> np.ndarray:
        """(N,) bool: rows with at least one concept."""
        return np.diff(self.offsets) > 0

    def places(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return, for each concept of some rows, its place in ``rows`` and in ``values``."""
        starts, counts = self.offsets[rows], np.diff(self.offsets)[rows]
        owner = np.repeat(np.arange(len(rows)), counts)
        within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
        return owner, np.repeat(starts, counts) + within
