"""All pairs of similar feature vectors among millions."""

from __future__ import annotations

import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd

from dermino.audit.blocks import Blocks
from dermino.errors import UserError

_EXACT_UP_TO = 50_000
_PROBED_CELLS = 16
_TRAINED_ON_A_CELL = 40
_BLOCK = 16_384


def near_vectors(vectors: np.ndarray, cosine: float, folder: Path) -> pd.DataFrame:
    """Find the pairs of images whose features are similar.

    Up to 50,000 images all pairs are compared. Among more, an image is compared with those in the
    16 nearest of ``4 sqrt(n)`` cells of the feature space.

    Parameters
    ----------
    vectors:
        (n, D) float32 of length 1.
    cosine:
        The smallest similarity of a pair.
    folder:
        Where parts of the search are kept.

    Returns
    -------
    pd.DataFrame
        ``a`` < ``b``, row numbers, sorted.

    Raises
    ------
    UserError
        If faiss is not installed.
    """
    faiss = import_faiss()
    number, dimension = vectors.shape
    if number > _EXACT_UP_TO:
        cells = round(4 * math.sqrt(number))
        index = faiss.IndexIVFFlat(
            faiss.IndexFlatIP(dimension), dimension, cells, faiss.METRIC_INNER_PRODUCT
        )
        step = max(1, number // (_TRAINED_ON_A_CELL * cells))
        index.train(np.ascontiguousarray(vectors[::step]))
        index.nprobe = _PROBED_CELLS
    else:
        index = faiss.IndexFlatIP(dimension)
    for start in range(0, number, _BLOCK):
        index.add(vectors[start : start + _BLOCK])

    def search(block: int) -> pd.DataFrame:
        start = block * _BLOCK
        ends, _, found = index.range_search(vectors[start : start + _BLOCK], cosine)
        rows = start + np.repeat(np.arange(len(ends) - 1), np.diff(ends.astype(np.int64)))
        return pd.DataFrame({"a": np.minimum(rows, found), "b": np.maximum(rows, found)}).query(
            "a != b"
        )

    blocks = Blocks(folder, vectors, {"cosine": cosine, "probed": _PROBED_CELLS})
    found = list(blocks.each(math.ceil(number / _BLOCK), search, "Comparing features"))
    pairs = pd.concat(found).drop_duplicates()
    return pairs.sort_values(["a", "b"], ignore_index=True)


def import_faiss() -> ModuleType:
    """Return faiss; a UserError names the extra that brings it."""
    try:
        import faiss
    except ImportError as error:
        raise UserError(
            "Comparing features needs faiss.", "Install it: pip install 'dermino[search]'"
        ) from error
    return faiss
