"""From pigments to colour: light absorbed by melanin and haemoglobin, in log space.

A skin pixel is white tissue seen through layers that each take away light in proportion to
their density, so densities add up in the logarithm of the picture (the model of Tsumura et al.,
Image-based skin color and texture analysis/synthesis by extracting hemoglobin and melanin
information in the skin, SIGGRAPH 2003). The display's gamma is folded into the densities, which
leaves one exponential for the whole picture.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

# Colour of skin without pigment, and density of each pigment in (red, green, blue).
TISSUE = np.array([0.975, 0.895, 0.830], np.float32)
ABSORPTION = np.array(
    [
        [0.70, 0.885, 1.03],  # epidermal melanin: brown
        [1.00, 0.68, 0.42],  # melanin in the dermis: blue, because blue light returns earlier
        [0.22, 0.96, 0.84],  # haemoglobin: red
        [0.05, 0.20, 0.75],  # keratin, serum: yellow
    ],
    np.float32,
)
SCATTER = np.array([0.975, 0.945, 0.915], np.float32)
RESTING_BLOOD = 0.085

# Individual typology angle in degrees (Chardon 1991, Del Bino 2013), by Fitzpatrick type.
ITA_RANGES = {
    1: (55.0, 66.0),
    2: (41.0, 55.0),
    3: (28.0, 41.0),
    4: (10.0, 28.0),
    5: (-30.0, 10.0),
    6: (-58.0, -30.0),
}


def colour(layers: np.ndarray) -> np.ndarray:
    """Return the reflectance of layers as display values.

    Parameters
    ----------
    layers:
        Densities of the four pigments and the scattered share, shape (5 or more, h, w), float32.

    Returns
    -------
    sRGB in 0..1, shape (3, h, w), float32.
    """
    rgb = np.empty((3, *layers.shape[1:]), np.float32)
    # Not a matrix product: its rounding may depend on the number of threads, and so the bytes.
    for channel, absorption in zip(rgb, ABSORPTION.T, strict=True):
        np.multiply(layers[0], -absorption[0], out=channel)
        for layer, strength in zip(layers[1:4], absorption[1:], strict=True):
            channel -= strength * layer
    np.exp(rgb, out=rgb)
    rgb *= TISSUE[:, None, None]
    rgb += layers[4] * (SCATTER[:, None, None] - rgb)
    return rgb


def typology_angle(rgb: np.ndarray) -> np.ndarray:
    """Return the individual typology angle, atan((L* - 50) / b*), in degrees.

    Parameters
    ----------
    rgb:
        sRGB in 0..1, shape (..., 3).
    """
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    z = linear @ np.array([0.0193, 0.1192, 0.9505]) / 1.0888

    def lab(t: np.ndarray) -> np.ndarray:
        return np.where(t > 216 / 24389, np.cbrt(t), (24389 / 27 * t + 16) / 116)

    lightness = 116 * lab(luminance) - 16
    return np.degrees(np.arctan2(lightness - 50, 200 * (lab(luminance) - lab(z))))


def melanin_of(ita: float) -> float:
    """Return the density of epidermal melanin at which resting skin has this typology angle."""
    angles, densities = _angle_curve()
    return float(np.interp(ita, angles, densities))


@lru_cache(maxsize=1)
def _angle_curve() -> tuple[np.ndarray, np.ndarray]:
    densities = np.linspace(0, 3, 301, dtype=np.float32)
    layers = np.zeros((5, 1, len(densities)), np.float32)
    layers[0, 0] = densities
    layers[2] = RESTING_BLOOD
    angles = typology_angle(colour(layers)[:, 0].T.astype(np.float64))
    return angles[::-1].copy(), densities[::-1].copy()
