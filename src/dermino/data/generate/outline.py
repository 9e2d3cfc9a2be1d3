"""Where a lesion lies: organic outlines from radial harmonics and fractal noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dermino.data.generate.canvas import Canvas, smoothstep
from dermino.data.generate.case import Morphology

_ANGLES = 1024


@dataclass(frozen=True)
class Outline:
    """The lesion's shape; every map has shape (size, size), float32.

    ``depth`` is the distance inside the border (negative outside) and ``u``, ``v`` the position,
    in lesion radii; ``cover`` rises from 0 to 1 across the border.
    """

    depth: np.ndarray
    cover: np.ndarray
    u: np.ndarray
    v: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """The lesion's area, bool."""
        return self.depth > 0

    def inner(self, low: float, high: float) -> np.ndarray:
        """Rise from 0 to 1 between two depths."""
        return smoothstep(low, high, self.depth)

    def spot(self, generator: np.random.Generator, distance: float, radius: float) -> np.ndarray:
        """A soft round spot (0..1) at ``distance`` from the centre in a random direction."""
        angle = 2 * np.pi * generator.random()
        du = self.u - np.float32(distance * np.cos(angle))
        dv = self.v - np.float32(distance * np.sin(angle))
        return np.exp((du * du + dv * dv) * np.float32(-1 / radius**2))


def draw_outline(canvas: Canvas, morphology: Morphology, generator: np.random.Generator) -> Outline:
    """Draw the border of one lesion, or of several patches that merge where they touch."""
    u, v = canvas.x / np.float32(canvas.radius), canvas.y / np.float32(canvas.radius)
    if morphology.patches:
        depth = _patches(u, v, morphology, generator)
    else:
        depth = _single(u, v, morphology, generator)
    if morphology.irregularity:
        wobble = canvas.noise("clouds", 0.9 * canvas.radius, generator)
        depth += np.float32(0.30 * morphology.irregularity) * wobble
        fringe = canvas.noise("clouds", 0.3 * canvas.radius, generator)
        depth += np.float32(0.09 * morphology.irregularity) * fringe
        # Noise must not call islands into being far from the lesion.
        np.minimum(depth, np.float32(1.22) - np.hypot(u, v), out=depth)
    soft = max(morphology.softness, 1.2 * canvas.pixel / canvas.radius)
    return Outline(depth, smoothstep(-soft, soft, depth), u, v)


def _single(
    u: np.ndarray, v: np.ndarray, morphology: Morphology, generator: np.random.Generator
) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, _ANGLES, endpoint=False)
    orders = np.arange(1, 15)
    phases = generator.uniform(0, 2 * np.pi, orders.size)
    sizes = generator.rayleigh(0.8, orders.size)
    amplitude = sizes * (
        morphology.asymmetry * 0.26 * np.exp(-0.5 * (orders - 1.0))
        + morphology.irregularity * 0.30 * orders**-1.0 * (orders > 2)
    )
    radius = 1 + (amplitude[:, None] * np.cos(orders[:, None] * angle + phases[:, None])).sum(0)
    stretch = 1 + morphology.elongation
    turned = angle + 2 * np.pi * generator.random()
    radius /= np.hypot(np.cos(turned) / stretch, np.sin(turned) * stretch)
    radius = np.maximum(radius, 0.25)
    radius *= 1 / np.sqrt((radius**2).mean())
    radius = (np.minimum(radius, 1.3) * 0.94).astype(np.float32)
    index = np.arctan2(v, u) * np.float32(_ANGLES / (2 * np.pi))
    return radius[index.astype(np.int32) % _ANGLES] - np.hypot(u, v)


def _patches(
    u: np.ndarray, v: np.ndarray, morphology: Morphology, generator: np.random.Generator
) -> np.ndarray:
    depth = np.full(u.shape, -9.0, np.float32)
    for number in range(1 + round(morphology.patches)):
        radius = generator.uniform(0.38, 0.6) if number == 0 else generator.uniform(0.13, 0.36)
        away = (1 - radius) * generator.random() ** (0.5 if number == 0 else 0.25)
        turn, tilt = generator.uniform(0, 2 * np.pi, 2)
        du = u - np.float32(away * np.cos(turn))
        dv = v - np.float32(away * np.sin(turn))
        stretch = 1 + morphology.elongation * generator.random()
        along = (du * np.float32(np.cos(tilt)) + dv * np.float32(np.sin(tilt))) / stretch
        across = (dv * np.float32(np.cos(tilt)) - du * np.float32(np.sin(tilt))) * stretch
        np.maximum(depth, np.float32(radius) - np.hypot(along, across), out=depth)
    return depth
