"""Seamless noise tiles that are made once and then looked up, turned and scaled for each picture.

Drawing fresh noise for each picture costs more than all the rest of rendering; a random piece of
a large tile at a random angle is as good to the eye and takes half a millisecond.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from PIL import Image
from scipy.ndimage import zoom
from scipy.spatial import cKDTree

from dermino.data.generate.case import stream

Kind = Literal["clouds", "grain", "network", "globules"]
PERIOD = 512
# Texels spanned by one cloud, grain, mesh or globule of the full-size tile.
FEATURE: dict[Kind, float] = {"clouds": 64.0, "grain": 6.0, "network": 16.0, "globules": 16.0}
MAX_LEVEL = 5


@lru_cache(maxsize=128)
def plane(kind: Kind, level: int, extent: int) -> tuple[Image.Image, int]:
    """Return a tile averaged over 2^level texels and repeated, and its period.

    Parameters
    ----------
    kind:
        ``clouds`` (fractal, zero mean, unit deviation), ``grain`` (fine, likewise), ``network``
        (1 on the lines of an irregular mesh, 0 in its holes) or ``globules`` (round blobs, 0..1).
    level:
        How often the tile is halved, so that fine detail is averaged rather than aliased; at
        most :data:`MAX_LEVEL`.
    extent:
        Texels that must be readable from any offset within one period.
    """
    step = 2**level
    period = PERIOD // step
    tile = _tile(kind).reshape(period, step, period, step).mean(axis=(1, 3))
    repeats = -(-(period + extent) // period)
    return Image.fromarray(np.tile(tile, (repeats, repeats))), period


@lru_cache(maxsize=8)
def _tile(kind: Kind) -> np.ndarray:
    if kind == "clouds":
        return _spectrum(lowest=4.0, peak=8.0, highest=256.0, slope=1.75, seed=1)
    if kind == "grain":
        return _spectrum(lowest=30.0, peak=70.0, highest=200.0, slope=1.0, seed=2)
    nearest, second, cell = _cells(seed=3)
    if kind == "network":
        return np.exp(-(((second - nearest) / 2.6) ** 2)).astype(np.float32)
    generator = stream(4)
    radius = generator.uniform(0.18, 0.42, cell.max() + 1)[cell] * FEATURE["globules"]
    present = generator.random(cell.max() + 1)[cell] < 0.75
    return (present / (1 + np.exp((nearest - radius) / 0.7))).astype(np.float32)


def _spectrum(lowest: float, peak: float, highest: float, slope: float, seed: int) -> np.ndarray:
    """Gaussian noise whose amplitude rises to ``peak`` cycles a tile and falls as f^-slope."""
    white = np.fft.rfft2(stream(seed).standard_normal((PERIOD, PERIOD)))
    rows, columns = np.fft.fftfreq(PERIOD) * PERIOD, np.fft.rfftfreq(PERIOD) * PERIOD
    frequency = np.hypot(rows[:, None], columns[None, :])
    amplitude = np.maximum(frequency, peak) ** -slope
    amplitude *= np.clip((frequency - lowest) / (peak - lowest), 0, 1)
    amplitude[frequency > highest] = 0
    noise = np.fft.irfft2(white * amplitude, s=(PERIOD, PERIOD))
    return (noise / noise.std()).astype(np.float32)


def _cells(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distance to the nearest and second nearest of jittered points, and the nearest's number."""
    generator = stream(seed)
    side = round(PERIOD / FEATURE["network"])
    corners = np.stack(np.meshgrid(np.arange(side), np.arange(side)), -1).reshape(-1, 2)
    points = (corners + generator.uniform(-0.25, 1.25, corners.shape)) * FEATURE["network"]
    half = PERIOD // 2
    grid = np.stack(np.meshgrid(np.arange(half), np.arange(half)), -1).reshape(-1, 2) * 2.0 + 0.5
    distance, index = cKDTree(points % PERIOD, boxsize=PERIOD).query(grid, k=2)
    double = [
        zoom(distance[:, rank].reshape(half, half), 2, order=1, mode="grid-wrap", grid_mode=True)
        for rank in (0, 1)
    ]
    cell = index[:, 0].reshape(half, half).repeat(2, axis=0).repeat(2, axis=1)
    return double[0], double[1], cell
