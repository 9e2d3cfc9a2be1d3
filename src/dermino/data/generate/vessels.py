"""Structures made of blood: redness, dotted and branching vessels, lacunae, wheals, ulcers."""

from __future__ import annotations

import numpy as np

from dermino.data.generate.canvas import Canvas, smoothstep
from dermino.data.generate.case import Case
from dermino.data.generate.outline import Outline


def paint_blood(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """Redness: even, or gathered along the border as the centre heals."""
    form = case.morphology
    clouds = canvas.noise("clouds", 0.45 * canvas.radius, generator)
    mottle = canvas.noise("grain", 0.05 * canvas.radius, generator)
    shade = 1 + np.float32(0.22) * clouds + np.float32(0.10) * mottle
    if form.ring:
        edge = 1 - outline.inner(0.10, 0.42)
        shade *= 1 - np.float32(form.ring) * (1 - edge)
    np.maximum(shade, np.float32(0.1), out=shade)
    flare = smoothstep(-0.35, 0.15, outline.depth) * np.float32(0.14)
    canvas.blood += np.float32(form.blood) * (shade * outline.cover + flare)


def paint_dotted_vessels(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """Regular red dots: the tips of dilated capillary loops."""
    dots = canvas.noise("globules", canvas.detail(0.45), generator)
    canvas.blood += np.float32(0.55 * case.morphology.dotted_vessels) * dots * outline.cover


def paint_branching_vessels(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """Sharp red trees that enter from the border and branch into ever thinner twigs."""
    strength = case.morphology.branching_vessels
    lines: list[np.ndarray] = []
    widths: list[float] = []
    thickest = canvas.detail(0.20 + 0.16 * strength) * 0.55
    for _ in range(2 + int(4 * strength * generator.random() + 2 * strength)):
        angle = generator.uniform(0, 2 * np.pi)
        root = canvas.radius * generator.uniform(0.6, 1.05)
        start = np.array([np.cos(angle), np.sin(angle)]) * root
        heading = angle + np.pi + generator.normal(0, 0.45)
        _grow(lines, widths, start, heading, thickest, canvas.radius, generator)
    red = canvas.lines(lines, widths, blur=0.35)
    red *= smoothstep(-0.12, 0.05, outline.depth)
    canvas.blood += np.float32(0.7 + 0.6 * strength) * red


def _grow(
    lines: list[np.ndarray],
    widths: list[float],
    start: np.ndarray,
    heading: float,
    width: float,
    reach: float,
    generator: np.random.Generator,
    generation: int = 0,
) -> None:
    """Add one winding vessel and, from points along it, its branches."""
    steps = 9
    headings = heading + np.cumsum(generator.normal(0, 0.28, steps))
    length = reach * generator.uniform(0.5, 1.0) * 0.62**generation / steps
    moves = np.stack([np.cos(headings), np.sin(headings)], axis=1) * length
    points = np.vstack([start, start + np.cumsum(moves, axis=0)])
    lines += [points[:5], points[4:]]
    widths += [width, 0.7 * width]
    if generation == 2:
        return
    for place in generator.choice(np.arange(2, steps), size=3 - generation, replace=False):
        side = generator.choice([-1, 1]) * generator.uniform(0.4, 1.0)
        branch = headings[place] + side
        _grow(lines, widths, points[place], branch, 0.62 * width, reach, generator, generation + 1)


def paint_lacunae(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """Red, blue-red or black lagoons of blood between paler walls."""
    strength = case.morphology.lacunae
    walls = canvas.noise("network", generator.uniform(0.28, 0.6) * canvas.radius, generator, 1.3)
    clouds = canvas.noise("clouds", 0.6 * canvas.radius, generator)
    walls = walls * smoothstep(-1.2, 1.2, canvas.noise("clouds", 0.4 * canvas.radius, generator))
    pools = (1 - walls) * outline.inner(-0.03, 0.1)
    dark = smoothstep(0.2, 1.3, clouds)
    canvas.blood += np.float32(0.35 + 0.75 * strength) * pools * (1 + np.float32(0.5) * dark)
    canvas.dermal += np.float32(0.75 * generator.random() ** 2) * pools * (1 + dark)
    canvas.white += np.float32(0.14) * walls * outline.cover
    canvas.height += np.float32(0.03) * pools


def paint_edema(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """A wheal: raised, paler in the middle than at the rim."""
    strength = case.morphology.edema
    middle = outline.inner(0.02, 0.38)
    canvas.blood *= 1 - np.float32(0.40 * strength) * middle
    canvas.white += np.float32(0.07 * strength) * middle
    canvas.height += np.float32(0.07 * strength) * outline.inner(-0.10, 0.25)


def paint_ulcer(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """An eroded, blood-stained part."""
    strength = case.morphology.ulcer
    ragged = canvas.noise("clouds", 0.3 * canvas.radius, generator)
    area = outline.spot(generator, 0.25 * generator.random(), 0.22 + 0.25 * strength)
    area = smoothstep(0.45, 0.75, area + np.float32(0.12) * ragged) * outline.inner(0.0, 0.1)
    canvas.blood += np.float32(1.1) * area
    canvas.melanin += np.float32(0.35 * generator.random()) * area
    canvas.white *= 1 - area
    canvas.height -= np.float32(0.10) * area
