"""All pairs of similar perceptual hashes among millions, without comparing all pairs."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from dermino.audit.blocks import Blocks
from dermino.audit.perceptual_hash import BITS, ORIENTATIONS, oriented

RECALL = 0.99
_COMPARED_AT_ONCE = 2**20
_SET_BITS = np.array([value.bit_count() for value in range(2**16)], np.uint8)


def near_hashes(hashes: np.ndarray, distance: int, folder: Path, seed: int = 0) -> pd.DataFrame:
    """Find the pairs of pictures whose hashes differ in few bits, in any orientation.

    Pictures are sorted by some of their bits, drawn at random, and compared where all of these
    agree; then by other bits, until a pair at ``distance`` has been compared with a probability of
    ``RECALL``, and a nearer one with a higher.

    Parameters
    ----------
    hashes:
        (n, 32) uint8, n different pictures.
    distance:
        The largest number of bits in which the two of a pair differ.
    folder:
        Where parts of the search are kept.
    seed:
        Of the choice of bits.

    Returns
    -------
    pd.DataFrame
        ``a`` < ``b``, row numbers, sorted.

    Source: Indyk and Motwani, Approximate nearest neighbors, STOC (1998): bit sampling.
    """
    key_bits = min(32, max(1, math.ceil(math.log2(max(2, len(hashes))))))
    agree = (1 - distance / BITS) ** key_bits
    tables = 1 if agree == 1 else math.ceil(math.log(1 - RECALL) / math.log(1 - agree))
    settings = {"distance": distance, "key_bits": key_bits, "tables": tables, "seed": seed}
    forms = [oriented(hashes, orientation) for orientation in ORIENTATIONS]

    def search(table: int) -> pd.DataFrame:
        bits = np.random.default_rng([seed, table]).choice(BITS, key_bits, replace=False)
        keys = _keys(hashes, bits)
        order = np.argsort(keys, kind="stable")
        found = [
            _near(form, hashes, left, right, distance)
            for form in forms
            for left, right in _equal(_keys(form, bits), keys[order], order)
        ]
        pairs = np.concatenate([np.empty((0, 2), np.int64), *found])
        return pd.DataFrame(np.unique(pairs, axis=0), columns=["a", "b"])

    blocks = Blocks(folder, hashes, settings)
    pairs = pd.DataFrame({"a": np.empty(0, np.int64), "b": np.empty(0, np.int64)})
    for found in blocks.each(tables, search, "Comparing perceptual hashes"):
        pairs = pd.concat([pairs, found]).drop_duplicates()
    return pairs.sort_values(["a", "b"], ignore_index=True)


def hash_distances(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how many bits differ in the orientation where fewest do, and which one that is.

    Parameters
    ----------
    first, second:
        (n, 32) uint8.

    Returns
    -------
    tuple
        (n,) int64, bits; (n,) int64, places in :data:`.perceptual_hash.ORIENTATIONS`.
    """
    distances = np.stack(
        [_differing(oriented(first, orientation), second) for orientation in ORIENTATIONS]
    )
    return distances.min(axis=0), distances.argmin(axis=0)


def _differing(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return _SET_BITS[(first ^ second).view(np.uint16)].sum(axis=1, dtype=np.int64)


def _keys(hashes: np.ndarray, bits: np.ndarray) -> np.ndarray:
    keys = np.zeros(len(hashes), np.uint32)
    for bit in bits.tolist():
        keys = keys << np.uint32(1) | (hashes[:, bit // 8] >> np.uint8(7 - bit % 8)) & np.uint8(1)
    return keys


def _equal(
    keys: np.ndarray, sorted_keys: np.ndarray, order: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs (row of ``keys``, row of ``order``) with equal keys, some at a time."""
    asked = np.argsort(keys, kind="stable")
    keys = keys[asked]  # Looked up in order: five times as fast as at random.
    start = np.searchsorted(sorted_keys, keys, "left")
    count = np.searchsorted(sorted_keys, keys, "right") - start
    total = np.cumsum(count)
    cuts = np.searchsorted(total, np.arange(0, total[-1], _COMPARED_AT_ONCE), "left").tolist()
    for low, high in pairwise([*cuts, len(keys)]):
        some = count[low:high]
        rows = np.repeat(np.arange(low, high), some)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(some) - some, some)
        yield asked[rows], order[start[rows] + within]


def _near(
    form: np.ndarray, hashes: np.ndarray, left: np.ndarray, right: np.ndarray, distance: int
) -> np.ndarray:
    # The eight orientations are a group: b turned is near a where a turned back is near b.
    ordered = left < right
    left, right = left[ordered], right[ordered]
    near = _differing(form[left], hashes[right]) <= distance
    return np.stack([left[near], right[near]], axis=1)
