"""Acne: papules and pustules that do not touch, so that they can be counted."""

from __future__ import annotations

import numpy as np

from dermino.data.generate.canvas import Canvas
from dermino.data.generate.case import Case

# Size of a pustule's head in radii of its base; least distance between lesions, in field radii.
_HEAD, _GAP = 0.5, 0.04


def paint_acne(canvas: Canvas, case: Case, generator: np.random.Generator) -> np.ndarray:
    """Paint exactly ``case.papules`` lesions and return their mask, bool.

    The order of the lesions is fixed, so a later visit adds to those seen before.
    """
    centres, radii = scatter(case.papules, generator)
    centres, radii = centres * canvas.radius, radii * canvas.radius
    # Spread over the order of appearance, so that a pustule stays one when papules are added.
    due = (np.arange(case.papules + 1) * case.morphology.pustules).astype(int)
    pustular = np.diff(due) > 0
    flare = canvas.discs(centres, 1.35 * radii, blur=0.03 * canvas.radius)
    body = canvas.discs(centres, 0.85 * radii, blur=0.016 * canvas.radius)
    canvas.blood += np.float32(0.45 * case.morphology.blood) * flare
    canvas.blood += np.float32(0.65 * case.morphology.blood) * body
    canvas.melanin += np.float32(0.10) * flare
    canvas.height += np.float32(0.045) * body
    if pustular.any():
        heads = canvas.discs(centres[pustular], _HEAD * radii[pustular], blur=0.006 * canvas.radius)
        canvas.white += np.float32(0.55) * heads
        canvas.yellow += np.float32(0.22) * heads
        canvas.height += np.float32(0.02) * heads
    plugs = generator.uniform(-0.95, 0.95, (int(30 * generator.random()), 2)) * canvas.radius
    dark = canvas.discs(plugs, np.full(len(plugs), 0.011 * canvas.radius))
    canvas.melanin += np.float32(0.35) * dark
    return canvas.discs(centres, radii) > 0.5


def scatter(number: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Place discs in the unit disc so that none touches another.

    Returns
    -------
    Centres, shape (number, 2), and radii, shape (number,).
    """
    tries = generator.random((6000, 3))
    angle, distance = 2 * np.pi * tries[:, 0], 0.96 * np.sqrt(tries[:, 1])
    places = np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)
    sizes = 0.036 + 0.032 * tries[:, 2] ** 2
    chosen: list[int] = []
    for attempt, (place, size) in enumerate(zip(places, sizes, strict=True)):
        gaps = np.hypot(*(places[chosen] - place).T) - sizes[chosen]
        if not (gaps < size + _GAP).any():
            chosen.append(attempt)
        if len(chosen) == number:
            return places[chosen], sizes[chosen]
    raise ValueError(f"No room for {number} lesions.")
