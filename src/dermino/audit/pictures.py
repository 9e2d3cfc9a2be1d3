"""Which pictures look the same: by perceptual hash, then by an encoder's features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from dermino.audit.calibration import COSINE, HASH, Calibration, Distinct, calibrate, sample
from dermino.audit.copies import COPIES
from dermino.audit.hash_search import hash_distances, near_hashes
from dermino.audit.perceptual_hash import BITS, ORIENTATIONS, hash_encoder, oriented
from dermino.audit.vector_search import near_vectors
from dermino.data.images import read_image
from dermino.data.reference import Reference
from dermino.evaluate.feature_cache import FeatureCache
from dermino.evaluate.features import extract_many
from dermino.models.encoder import Encoder
from dermino.progress import track

_COPIED = 100


@dataclass(frozen=True)
class Pictures:
    """Different pictures, n of them, with what they are compared by.

    Parameters
    ----------
    paths:
        Where they are.
    hashes:
        (n, 32) uint8.
    features:
        (n, D) float32 of length 1, or None without an encoder.
    encoder:
        What the features are of.
    """

    paths: Sequence[Reference]
    hashes: np.ndarray
    features: np.ndarray | None = None
    encoder: Encoder | None = None

    @classmethod
    def read(
        cls,
        paths: Sequence[Reference],
        digests: np.ndarray,
        encoder: Encoder | None,
        cache: FeatureCache,
        device: torch.device,
        batch_size: int = 64,
        workers: int | None = None,
    ) -> Pictures:
        """Decode each picture once, or take hashes and features from the cache.

        Parameters
        ----------
        paths:
            Pictures of n different contents.
        digests:
            Their content digests, (n, 16) uint8.
        encoder, cache, device, batch_size, workers:
            As for :func:`dermino.evaluate.features.extract_many`.
        """
        encoders = [hash_encoder(device), *([encoder] if encoder else [])]
        hashes, *features = extract_many(encoders, paths, cache, batch_size, workers, digests)
        for vectors in features:
            _normalise(vectors)
        return cls(paths, hashes.astype(np.uint8), features[0] if features else None, encoder)

    def calibrate(self, distinct: Distinct, rate: float, seed: int = 0) -> dict[str, Calibration]:
        """Find a threshold for ``hash`` and, with an encoder, one for ``features``."""
        number = len(self.paths)
        rows = sample(number, rate, seed)
        distinct, copied = distinct.select(rows), self._copies(seed)
        forms = [_signs(oriented(self.hashes[rows], orientation)) for orientation in ORIENTATIONS]
        found = {"hash": calibrate(forms, copied["hash"], distinct, HASH, rate, number)}
        if self.features is not None:
            forms = [self.features[rows]]
            own = copied["features"]
            found["features"] = calibrate(forms, own, distinct, COSINE, rate, number)
        return found

    def search(self, thresholds: dict[str, Calibration], folder: Path, seed: int) -> pd.DataFrame:
        """Find the pairs that are near by hash or by features; ``a`` < ``b``, row numbers."""
        pairs = near_hashes(self.hashes, thresholds["hash"].steps, folder, seed)
        if self.features is not None:
            cosine = 1 - thresholds["features"].steps / COSINE.steps
            pairs = pd.concat([pairs, near_vectors(self.features, cosine, folder)])
        return pairs.drop_duplicates(ignore_index=True)

    def measured(self, first: np.ndarray, second: np.ndarray) -> pd.DataFrame:
        """Return ``hash_distance``, ``orientation`` and ``cosine`` of pairs of row numbers.

        ``orientation`` is what to do with the first picture so that it is like the second;
        ``cosine`` is missing without an encoder.
        """
        distances, places = hash_distances(self.hashes[first], self.hashes[second])
        cosine = np.full(len(first), np.nan, np.float32)
        if self.features is not None:
            cosine = np.einsum("nd,nd->n", self.features[first], self.features[second])
        names = np.array(ORIENTATIONS, object)[places]
        return pd.DataFrame({"hash_distance": distances, "orientation": names, "cosine": cosine})

    def _copies(self, seed: int) -> dict[str, dict[str, np.ndarray]]:
        """Copy some pictures in every way; return the copies' distances to their originals."""
        number = min(_COPIED, len(self.paths))
        rows = np.random.default_rng(seed).choice(len(self.paths), number, replace=False)
        hasher = hash_encoder()
        result: dict[str, dict[str, np.ndarray]] = {"hash": {}, "features": {}}
        made: dict[str, list[tuple[np.ndarray, float]]] = {kind: [] for kind in COPIES}
        for row in track(rows.tolist(), "Making copies to calibrate with"):
            image = read_image(self.paths[row])
            copies = [copy(image) for copy in COPIES.values()]
            hashes = _embed(hasher, copies).astype(np.uint8)
            cosines = np.ones(len(copies))
            if self.features is not None and self.encoder is not None:
                vectors = _embed(self.encoder, copies)
                _normalise(vectors)
                cosines = vectors @ self.features[row]
            for kind, code, cosine in zip(COPIES, hashes, cosines, strict=True):
                made[kind].append((code, float(cosine)))
        for kind, copies_made in made.items():
            codes = np.stack([code for code, _ in copies_made])
            result["hash"][kind] = hash_distances(codes, self.hashes[rows])[0]
            cosines = np.array([cosine for _, cosine in copies_made])
            result["features"][kind] = (1 - cosines) * COSINE.steps
        return result


def _embed(encoder: Encoder, images: Sequence[torch.Tensor]) -> np.ndarray:
    with torch.inference_mode():
        ready = torch.stack([encoder.preprocess.resize(image) for image in images])
        return encoder.embed(ready).cpu().numpy()


def _signs(hashes: np.ndarray) -> np.ndarray:
    """Bits as vectors of length 1: the inner product counts those that agree."""
    return (np.unpackbits(hashes, axis=1).astype(np.float32) * 2 - 1) / np.sqrt(np.float32(BITS))


def _normalise(vectors: np.ndarray) -> None:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors /= np.maximum(lengths, np.finfo(np.float32).tiny)
