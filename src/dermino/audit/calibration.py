"""How alike two pictures must be to count as one, learnt from the user's own images.

Two distributions decide: the distances of pictures that are known to be different, and those
between pictures and copies made of them on purpose.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from scipy.stats import beta

from dermino.progress import track

_EXPECTED_IN_SAMPLE = 10
_SAMPLED_AT_MOST = 20_000
_BLOCK = 1024
_CONFIDENCE = 0.95


@dataclass(frozen=True)
class Measure:
    """How the distance of two vectors of length 1 is counted: in steps of a finite scale.

    Parameters
    ----------
    steps:
        One minus the inner product is multiplied by it.
    loosest:
        A limit for the threshold, in steps, for collections too small to tell.
    """

    steps: int
    loosest: int


# Of 8.4 million pairs of different lesions of HAM10000 seven are within 40 bits; and the search for
# hashes slows down with the distance.
HASH = Measure(steps=128, loosest=40)
COSINE = Measure(steps=10_000, loosest=2_000)


@dataclass(frozen=True)
class Calibration:
    """A threshold and what is to be expected of it.

    Parameters
    ----------
    steps:
        The largest distance of two pictures that count as one, in the measure's steps.
    false_positive_rate:
        Share of the pairs known to be different that are as near.
    false_positive_bound:
        Upper end of its exact 95 % interval.
    different_pairs:
        How many such pairs were compared.
    known_by:
        How they are known to be different.
    expected_false_pairs:
        The rate times the number of pairs in the collection.
    found_copies:
        Share of the copies of each kind that are as near to their original.
    """

    steps: int
    false_positive_rate: float
    false_positive_bound: float
    different_pairs: int
    known_by: str
    expected_false_pairs: float
    found_copies: Mapping[str, float]

    def describe(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Distinct:
    """What tells that pictures are different.

    Parameters
    ----------
    datasets, groups, labels:
        Numbers, (n,) int64; -1 where a lesion (or patient) or a label is not known. Two pictures of
        one dataset are different where their groups are, or, with no groups known, their labels.
    """

    datasets: np.ndarray
    groups: np.ndarray
    labels: np.ndarray

    def select(self, rows: np.ndarray) -> Distinct:
        """Return the same of some rows."""
        return Distinct(self.datasets[rows], self.groups[rows], self.labels[rows])

    def between(self, first: slice, second: slice) -> np.ndarray:
        """Tell which pairs are known to be different, (a, b) bool."""
        known, differ = _compare(self.groups[first], self.groups[second])
        labelled, other = _compare(self.labels[first], self.labels[second])
        same_dataset = self.datasets[first, None] == self.datasets[None, second]
        return same_dataset & np.where(known, differ, labelled & other)


def _compare(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    known = (first[:, None] >= 0) & (second[None] >= 0)
    return known, first[:, None] != second[None]


def default_rate(number: int) -> float:
    """Return the false-positive rate of one false pair for a thousand of ``number`` images."""
    return 0.002 / max(1, number - 1)


def sample(number: int, rate: float, seed: int) -> np.ndarray:
    """Return rows of ``number`` pictures, enough to see the rate among their pairs.

    Parameters
    ----------
    number:
        Pictures there are.
    rate:
        The false-positive rate to be seen.
    seed:
        Which rows are drawn.

    Returns
    -------
    np.ndarray
        (m,) int64, rising.
    """
    size = min(number, _SAMPLED_AT_MOST, math.ceil(math.sqrt(2 * _EXPECTED_IN_SAMPLE / rate)))
    return np.sort(np.random.default_rng(seed).choice(number, size, replace=False))


def calibrate(
    forms: Sequence[np.ndarray],
    copies: Mapping[str, np.ndarray],
    distinct: Distinct,
    measure: Measure,
    rate: float,
    number: int,
) -> Calibration:
    """Choose the largest distance at which few different pictures are taken for one.

    Parameters
    ----------
    forms:
        (n, D) float32 of length 1, of a :func:`sample` of the pictures: one array for each form of
        a picture that counts as the same, the first is the picture itself. The distance is the
        least over the forms.
    copies:
        Distances of copies to their originals, (m,), in the measure's steps, by kind.
    distinct:
        Which of the n pictures are known to be different.
    measure:
        How distances are counted.
    rate:
        The false-positive rate to keep to.
    number:
        How many pictures there are in all.
    """
    known_by = "lesion, patient or label"
    counts = _histogram(forms, distinct, measure)
    if not counts.sum():
        known_by = "not known: all pairs were taken for different"
        counts = _histogram(forms, None, measure)
    pairs = int(counts.sum())
    cumulative = np.cumsum(counts)
    allowed = int(np.searchsorted(cumulative, rate * pairs, "right")) - 1
    threshold = max(0, min(allowed, measure.loosest))
    false = int(cumulative[threshold])
    return Calibration(
        steps=threshold,
        false_positive_rate=false / max(1, pairs),
        false_positive_bound=_upper_bound(false, pairs),
        different_pairs=pairs,
        known_by=known_by,
        expected_false_pairs=false / max(1, pairs) * number * (number - 1) / 2,
        found_copies={kind: float((own <= threshold).mean()) for kind, own in copies.items()},
    )


def _histogram(
    forms: Sequence[np.ndarray], distinct: Distinct | None, measure: Measure
) -> np.ndarray:
    """Count the pairs a < b at each distance in steps, shape (2 * steps + 1,)."""
    tensors = [torch.from_numpy(form) for form in forms]
    counts = np.zeros(2 * measure.steps + 1, np.int64)
    number = len(tensors[0])
    for start in track(range(0, number, _BLOCK), "Comparing different pictures"):
        part, rest = slice(start, start + _BLOCK), slice(start, number)
        nearest = torch.stack([form[part] @ tensors[0][rest].T for form in tensors]).amax(dim=0)
        distances = ((1 - nearest) * measure.steps).round().clamp(0, 2 * measure.steps)
        chosen = np.triu(np.ones(distances.shape, bool), k=1)
        if distinct is not None:
            chosen &= distinct.between(part, rest)
        counts += np.bincount(distances.numpy()[chosen].astype(np.int64), minlength=len(counts))
    return counts


def _upper_bound(events: int, trials: int) -> float:
    """Clopper and Pearson's upper end of a share's two-sided interval."""
    if trials == 0:
        return 1.0
    return float(beta.ppf((1 + _CONFIDENCE) / 2, events + 1, max(1, trials - events)))
