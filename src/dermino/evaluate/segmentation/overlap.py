"""How far predicted lesions cover true ones: counts of pixels, and the metrics made of them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

# Columns of a table of counts.
TP, FP, FN, TN = range(4)


def count_pixels(predicted: np.ndarray, lesion: np.ndarray) -> np.ndarray:
    """Count pixels of masks (b, H, W), bool: (b, 4) int64, the columns TP, FP, FN and TN."""
    pairs = [
        predicted & lesion,
        predicted & ~lesion,
        ~predicted & lesion,
        ~predicted & ~lesion,
    ]
    return np.stack([pair.sum(axis=(1, 2)) for pair in pairs], axis=1)


def dice(counts: np.ndarray) -> np.ndarray:
    """Return 2 TP / (2 TP + FP + FN) of each row; NaN where both masks are empty."""
    part, whole = dice_terms(counts)
    return _divide(part, whole)


def jaccard(counts: np.ndarray) -> np.ndarray:
    """Return TP / (TP + FP + FN) of each row; NaN where both masks are empty."""
    part, whole = jaccard_terms(counts)
    return _divide(part, whole)


def dice_terms(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return part and whole of Dice, whose sums over images make that of a dataset."""
    part = 2 * counts[:, TP]
    return part, part + counts[:, FP] + counts[:, FN]


def jaccard_terms(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return part and whole of Jaccard, whose sums over images make that of a dataset."""
    part = counts[:, TP]
    return part, part + counts[:, FP] + counts[:, FN]


def official_scores(counts: np.ndarray, batch_size: int) -> tuple[float, float]:
    """Return Dice and Jaccard as the authors' scripts compute them.

    The pixels of a batch are one picture. Dice is averaged over background and lesion, those of
    them that occur; Jaccard adds up both classes before dividing, so that it is (N - e) / (N + e)
    for e wrong ones of N pixels. Batches count alike, the last, smaller one too.

    Parameters
    ----------
    counts:
        (n, 4), of masks read as the scripts do, in the order of the test rows.
    batch_size:
        Images in a batch.
    """
    values = [_official_batch(part.sum(axis=0)) for part in _batches(counts, batch_size)]
    dices, jaccards = zip(*values, strict=True)
    return float(np.mean(dices)), float(np.mean(jaccards))


def _official_batch(counts: np.ndarray) -> tuple[float, float]:
    background = counts[[TN, FN, FP, TP]]
    occurring = [row for row in (background, counts) if row[TP] + row[FP] + row[FN]]
    both = background + counts
    dices = dice(np.stack(occurring))
    return float(dices.mean()), float(jaccard(both[None])[0])


def _batches(counts: np.ndarray, batch_size: int) -> Iterable[np.ndarray]:
    return (counts[start : start + batch_size] for start in range(0, len(counts), batch_size))


def _divide(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return part / whole
