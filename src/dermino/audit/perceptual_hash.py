"""A perceptual hash whose mirrored and turned forms follow from its bits."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from scipy.fft import dct
from torch import nn

from dermino.models.encoder import Encoder
from dermino.models.preprocess import Preprocess

Orientation = Literal[
    "upright", "mirrored", "upside down", "turned 180", "transposed", "turned 90", "turned 270",
    "transverse",
]  # fmt: skip
ORIENTATIONS: tuple[Orientation, ...] = get_args(Orientation)
BITS = 256
BYTES = BITS // 8
_SIDE = 64
_FREQUENCIES = 16
_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow converts to grey.


class _CosineSigns(nn.Module):
    """Signs of the lowest 16 x 16 cosine coefficients of a grey picture of 64 x 64 pixels."""

    num_features = BYTES

    def __init__(self) -> None:
        super().__init__()
        basis = dct(np.eye(_SIDE), norm="ortho", axis=0)[:_FREQUENCIES]
        self.basis = nn.Parameter(torch.from_numpy(basis).float())
        self.luma = nn.Parameter(torch.tensor(_LUMA).view(1, 3, 1, 1))

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, 64, 64) float32 -> (B, 32) float32, whole numbers from 0 to 255."""
        grey = (images * self.luma).sum(dim=1)
        signs = self.basis @ grey @ self.basis.T > 0
        weights = 2 ** torch.arange(7, -1, -1, device=images.device, dtype=torch.float32)
        return signs.flatten(1).unflatten(1, (BYTES, 8)).float() @ weights

    def forward_head(self, features: torch.Tensor, pre_logits: bool) -> torch.Tensor:
        """The hash itself."""
        return features


def hash_encoder(device: torch.device | str = "cpu") -> Encoder:
    """Return the hash in the shape of an encoder, to be computed and kept as features are.

    The picture is squashed to a square first: a copy whose sides have other proportions has the
    same hash. ``embed`` gives the 256 bits as 32 numbers from 0 to 255. It is pHash with 16 x 16
    frequencies, each compared with 0 in place of the median of all: so its bits tell those of the
    picture mirrored or turned.

    Source: Zauner, Implementation and benchmarking of perceptual image hash functions (2010).
    """
    preprocess = Preprocess(
        image_size=_SIDE, resize_size=_SIDE, mode="squash", mean=(0, 0, 0), std=(1, 1, 1)
    )
    return Encoder("perceptual hash", _CosineSigns(), preprocess, "cosine-signs").to(device)


def oriented(hashes: np.ndarray, orientation: Orientation) -> np.ndarray:
    """Return the hashes of the same pictures mirrored or turned anticlockwise.

    Mirroring changes the sign of every odd frequency along its axis, transposing swaps the axes.

    Parameters
    ----------
    hashes:
        (n, 32) uint8.
    orientation:
        One of :data:`ORIENTATIONS`.
    """
    swapped = ORIENTATIONS.index(orientation) >= ORIENTATIONS.index("transposed")
    if swapped:
        grid = np.unpackbits(hashes, axis=1).reshape(-1, _FREQUENCIES, _FREQUENCIES)
        hashes = np.packbits(grid.swapaxes(1, 2).reshape(len(hashes), BITS), axis=1)
    odd = np.arange(_FREQUENCIES, dtype=np.uint8) % 2
    signs = np.zeros((_FREQUENCIES, _FREQUENCIES), np.uint8)
    if orientation in {"upside down", "turned 180", "turned 90", "transverse"}:
        signs ^= odd[:, None]
    if orientation in {"mirrored", "turned 180", "turned 270", "transverse"}:
        signs ^= odd
    return hashes ^ np.packbits(signs)
