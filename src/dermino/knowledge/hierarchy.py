"""Coarse and fine concepts of one dataset, as far as its publisher's own columns tell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

_NONE = np.zeros(0, dtype=np.int64)


class Hierarchy:
    """What lies above and below each concept of a dataset.

    Parameters
    ----------
    parents:
        Pairs (concept, broader concept); a concept may have several broader ones.

    Raises
    ------
    ValueError
        If a concept is broader than itself; its message is the concept's number.
    """

    def __init__(self, parents: Iterable[tuple[int, int]] = ()) -> None:
        direct: dict[int, set[int]] = defaultdict(set)
        for concept, broader in parents:
            direct[concept].add(broader)
        above = {concept: _closure(concept, direct) for concept in direct}
        below: dict[int, list[int]] = defaultdict(list)
        for concept, broader_concepts in above.items():
            for broader in broader_concepts:
                below[broader].append(concept)
        self._above = {concept: np.array(sorted(found)) for concept, found in above.items()}
        self._below = {concept: np.array(sorted(found)) for concept, found in below.items()}

    def above(self, concept: int) -> np.ndarray:
        """Return all broader concepts, (A,) int64."""
        return self._above.get(concept, _NONE)

    def below(self, concept: int) -> np.ndarray:
        """Return all narrower concepts, (D,) int64."""
        return self._below.get(concept, _NONE)


def _closure(concept: int, direct: dict[int, set[int]]) -> set[int]:
    found: set[int] = set()
    waiting = list(direct[concept])
    while waiting:
        broader = waiting.pop()
        if broader == concept:
            raise ValueError(str(concept))
        if broader not in found:
            found.add(broader)
            waiting += direct.get(broader, ())
    return found
