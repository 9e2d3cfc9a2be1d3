"""Structures made of melanin: pigment, network, globules, streaks, veil, nests and their loss."""

from __future__ import annotations

import numpy as np

from dermino.data.generate.canvas import Canvas, smoothstep
from dermino.data.generate.case import Case
from dermino.data.generate.outline import Outline


def paint_pigment(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """Even or blotchy brown, darker in an off-centre area as the lesion is less symmetric."""
    form = case.morphology
    clouds = canvas.noise("clouds", 0.7 * canvas.radius, generator)
    mottle = canvas.noise("clouds", 0.14 * canvas.radius, generator)
    shade = 1 + np.float32(0.55 * form.variegation) * clouds + np.float32(0.10) * mottle
    dark = outline.spot(generator, 0.7 * form.asymmetry, 0.45)
    shade += np.float32(0.5 * generator.random() + 0.7 * form.variegation) * dark
    centre = np.float32(0.75) + np.float32(0.25) * outline.inner(0.0, 0.5)
    np.maximum(shade, np.float32(0.12), out=shade)
    canvas.melanin += np.float32(form.melanin) * shade * centre * outline.cover


def paint_network(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """A mesh of brown lines that fades at the border; coarser where it is atypical."""
    form = case.morphology
    lines = canvas.noise("network", canvas.detail(0.42 + 0.3 * form.variegation), generator)
    here = canvas.noise("clouds", 0.6 * canvas.radius, generator)
    amount = form.network * outline.inner(-0.04, 0.25)
    amount *= smoothstep(-0.9 - form.network, 0.8, here)
    canvas.melanin += (lines - np.float32(0.35)) * amount * np.float32(0.75)


def paint_globules(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """Round clods of pigment, all over or in one part."""
    blobs = canvas.noise("globules", canvas.detail(0.55), generator)
    here = canvas.noise("clouds", 0.9 * canvas.radius, generator)
    amount = blobs * outline.inner(-0.02, 0.12) * smoothstep(-0.6, 0.4, here)
    canvas.melanin += np.float32(0.75 * case.morphology.globules) * amount


def paint_streaks(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """Radial lines across the border, on part of the circumference."""
    angle = np.arctan2(outline.v, outline.u)
    number = int(generator.integers(28, 46))
    waves = np.sin(np.float32(number) * angle + 3 * np.sin(3 * angle + generator.uniform(0, 6)))
    waves += np.float32(0.5) * canvas.noise("clouds", 0.25 * canvas.radius, generator)
    part = smoothstep(-0.2, 0.7, np.cos(angle - np.float32(generator.uniform(0, 2 * np.pi))))
    rim = smoothstep(-0.16, -0.02, outline.depth) * (1 - outline.inner(0.08, 0.28))
    rays = smoothstep(0.1, 0.8, waves) * rim * part
    canvas.melanin += np.float32(0.75 * case.morphology.streaks) * rays


def paint_veil(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """A structureless blue area under a whitish film, in one part of the lesion."""
    strength = case.morphology.veil
    haze = canvas.noise("clouds", 0.5 * canvas.radius, generator)
    area = outline.spot(generator, 0.35, 0.35 + 0.35 * strength) * 1.5 + np.float32(0.25) * haze
    area = smoothstep(0.25, 1.35, area) * outline.inner(0.0, 0.3)
    canvas.melanin *= 1 - np.float32(0.55) * area
    canvas.blood *= 1 - np.float32(0.5) * area
    canvas.dermal += np.float32(0.45 + 0.55 * strength) * area
    canvas.white += np.float32(0.10 + 0.08 * strength) * area


def paint_nests(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """Blue-grey ovoid nests and leaf-like clods, most of them near the border."""
    number = 3 + int(14 * case.morphology.nests * generator.random())
    angle = generator.uniform(0, 2 * np.pi, number)
    distance = np.sqrt(generator.uniform(0.1, 0.75, number)) * canvas.radius
    centres = np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)
    radii = generator.uniform(0.04, 0.16, number) * canvas.radius
    clods = canvas.discs(centres, radii, blur=0.05 * canvas.radius)
    wobble = canvas.noise("clouds", 0.2 * canvas.radius, generator)
    clods = smoothstep(0.2, 0.9, clods + np.float32(0.16) * wobble * (clods > 0.02))
    clods *= outline.cover
    canvas.dermal += np.float32(0.35 + 0.4 * case.morphology.nests) * clods
    canvas.melanin += np.float32(0.25) * clods


def paint_regression(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """White scar-like areas with grey pepper, where the pigment has gone."""
    strength = case.morphology.regression
    haze = canvas.noise("clouds", 0.55 * canvas.radius, generator)
    area = smoothstep(0.7 - strength, 2.6 - strength, haze) * outline.inner(0.0, 0.25)
    pepper = canvas.noise("globules", canvas.detail(0.25), generator)
    canvas.melanin *= 1 - np.float32(0.75) * area
    canvas.white += np.float32(0.16) * area
    canvas.dermal += np.float32(0.35) * pepper * area


def paint_depigmentation(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """Chalk-white skin with a slightly darker border, and islands of pigment round follicles."""
    strength = case.morphology.depigmentation
    islands = canvas.noise("globules", 0.22 * canvas.radius, generator)
    part = smoothstep(0.6, 1.4, canvas.noise("clouds", 0.8 * canvas.radius, generator))
    lost = outline.cover * (1 - islands * part) * np.float32(strength)
    rim = smoothstep(-0.14, 0.0, outline.depth) * (1 - outline.cover)
    canvas.melanin += np.float32(0.10) * rim
    canvas.melanin *= 1 - lost
    canvas.blood *= 1 - np.float32(0.15) * lost
    canvas.white += np.float32(0.09) * lost
