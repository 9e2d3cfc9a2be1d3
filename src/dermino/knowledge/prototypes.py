"""The disease prototypes' first values: Eq. 7, for any width of the vision backbone."""

from __future__ import annotations

import numpy as np

from dermino.knowledge.taxonomy import Taxonomy


def initial_prototypes(taxonomy: Taxonomy, embed_dim: int, seed: int = 0) -> np.ndarray:
    """Return W_init of Eq. 7, (C, embed_dim) float32 with rows of length 1.

    What Eq. 7 wants kept are the cosines between the diseases:

    - ``embed_dim`` equal to the text encoder's: the embeddings as they are.
    - larger: times a seeded matrix with orthonormal rows, which keeps every cosine.
    - smaller: the uncentred projection on the embeddings' top right singular vectors, of all
      linear maps the one that keeps their Gram matrix best (Eckart and Young), and exactly
      wherever there are no more than ``embed_dim`` independent embeddings. Then the same seeded
      rotation: without it the first coordinate would hold most of every prototype.

    :func:`cosine_errors` says how well it went.
    """
    embeddings = taxonomy.embeddings.astype(np.float64)
    text_dim = embeddings.shape[1]
    if embed_dim == text_dim:
        return taxonomy.embeddings.astype(np.float32)
    if embed_dim < text_dim:
        embeddings = _principal_coordinates(embeddings, embed_dim)
    vectors = embeddings @ _orthonormal_rows(embeddings.shape[1], embed_dim, seed)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)


def cosine_errors(embeddings: np.ndarray, prototypes: np.ndarray) -> tuple[float, float]:
    """Return the largest and the mean absolute difference of the rows' cosines."""
    first, second = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True)
        for rows in (embeddings.astype(np.float64), prototypes.astype(np.float64))
    )
    difference = np.abs(first @ first.T - second @ second.T)
    return float(difference.max()), float(difference.mean())


def _principal_coordinates(rows: np.ndarray, dimensions: int) -> np.ndarray:
    _, _, directions = np.linalg.svd(rows, full_matrices=False)
    directions = directions[:dimensions]
    # A singular vector's sign is arbitrary: make its largest entry positive.
    largest = np.abs(directions).argmax(axis=1)
    directions *= np.sign(directions[np.arange(len(directions)), largest])[:, None]
    return rows @ directions.T


def _orthonormal_rows(rows: int, columns: int, seed: int) -> np.ndarray:
    gaussian = np.random.default_rng(seed).standard_normal((columns, rows))
    orthonormal, upper = np.linalg.qr(gaussian)
    return (orthonormal * np.sign(np.diag(upper))).T
