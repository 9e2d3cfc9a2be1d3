"""Which names mean one disease: embeddings that are close, and nothing that keeps them apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from dermino.knowledge.contrasts import contrasting

# Farther than any cosine distance, so that a forbidden pair can never share a concept.
_APART = 4.0


def cosines(embeddings: np.ndarray) -> np.ndarray:
    """Return the (n, n) float64 cosines of rows of length 1.

    Rounded to 6 decimals, so that the number of threads a machine has cannot tip a decision.
    """
    vectors = np.asarray(embeddings, dtype=np.float64)
    return np.round(vectors @ vectors.T, 6)


def merge_names(
    names: Sequence[str],
    embeddings: np.ndarray,
    threshold: float,
    reviewed: Collection[str] = (),
) -> list[list[str]]:
    """Group names into concepts; section 4.1.4 of the DermINO paper.

    Complete linkage: every two names of a group have a cosine of at least ``threshold``, so a
    group cannot drift from one disease to another through a chain of neighbours, as it would with
    single linkage. The order of ``names`` does not matter.

    Parameters
    ----------
    names:
        Distinct normalised names.
    embeddings:
        (n, D) rows of length 1, in the order of ``names``.
    threshold:
        Smallest cosine inside a group.
    reviewed:
        Names that a person has settled: no two of them share a group.

    Returns
    -------
    list
        The groups, each sorted, sorted by their first names.
    """
    order = sorted(range(len(names)), key=lambda number: names[number])
    ordered = [names[number] for number in order]
    if len(ordered) < 2:
        return [[name] for name in ordered]
    distances = np.clip(1.0 - cosines(np.asarray(embeddings)[order]), 0.0, None)
    settled = np.array([name in set(reviewed) for name in ordered])
    distances[contrasting(ordered) | (settled[:, None] & settled[None, :])] = _APART
    np.fill_diagonal(distances, 0.0)
    tree = linkage(squareform(distances, checks=False), method="complete")
    clusters = fcluster(tree, t=1.0 - threshold + 1e-9, criterion="distance")
    groups: dict[int, list[str]] = {}
    for name, cluster in zip(ordered, clusters, strict=True):
        groups.setdefault(int(cluster), []).append(name)
    return sorted(groups.values())
