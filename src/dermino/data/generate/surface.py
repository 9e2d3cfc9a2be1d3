"""Structures of the surface: elevation, scale, crust, milia, plugged follicles, fissures, scars."""

from __future__ import annotations

import numpy as np

from dermino.data.generate.canvas import Canvas, smoothstep
from dermino.data.generate.case import Case
from dermino.data.generate.outline import Outline


def paint_elevation(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """A dome or a plateau, with a bumpy top."""
    bumps = canvas.noise("clouds", 0.5 * canvas.radius, generator)
    dome = 1 - np.float32(0.5) * (outline.u * outline.u + outline.v * outline.v)
    dome *= outline.inner(-0.08, 0.5) * (1 + np.float32(0.04) * bumps)
    canvas.height += np.float32(0.40 * case.morphology.elevation) * dome


def paint_fissures(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """Dark clefts between ridges, as on the surface of a brain."""
    strength = case.morphology.fissures
    clefts = canvas.noise("network", generator.uniform(0.2, 0.34) * canvas.radius, generator, 1.5)
    clefts = smoothstep(0.35, 0.95, clefts) * outline.inner(0.0, 0.15)
    canvas.melanin += np.float32(0.55 * strength) * clefts
    canvas.height -= np.float32(0.035 * strength) * clefts


def paint_milia(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """Small bright cysts."""
    dots = _dots(canvas, 4 + int(26 * case.morphology.milia), (0.016, 0.042), generator)
    canvas.white += np.float32(0.65) * dots * outline.inner(0.02, 0.1)


def paint_openings(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """Dark brown plugs in widened follicles."""
    dots = _dots(canvas, 3 + int(18 * case.morphology.openings), (0.025, 0.07), generator)
    dots *= outline.inner(0.02, 0.1)
    canvas.melanin += np.float32(1.1) * dots
    canvas.height -= np.float32(0.04) * dots


def paint_scar(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """A white central patch with a soft, ragged edge."""
    strength = case.morphology.scar
    ragged = canvas.noise("clouds", 0.35 * canvas.radius, generator)
    area = outline.spot(generator, 0.12 * generator.random(), generator.uniform(0.3, 0.5))
    area = smoothstep(0.3, 0.85, area + np.float32(0.10) * ragged) * outline.cover
    strands = canvas.noise("network", canvas.detail(0.5), generator)
    canvas.melanin *= 1 - np.float32(0.6 * strength) * area
    canvas.white += np.float32(0.26 * strength) * area * (np.float32(0.6) + strands)


def paint_scale(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """White flakes; along the border only, where the lesion heals from its centre."""
    form = case.morphology
    where = canvas.noise("clouds", 0.8 * canvas.radius, generator)
    flakes = canvas.noise("clouds", 0.16 * canvas.radius, generator)
    fine = canvas.noise("grain", 0.05 * canvas.radius, generator, 1.6)
    cracks = canvas.noise("network", 0.13 * canvas.radius, generator, 1.4)
    amount = where + np.float32(0.55) * flakes + np.float32(0.3) * fine
    area = smoothstep(1.3 - 2.2 * form.scale, 3.1 - 2.2 * form.scale, amount)
    area *= outline.inner(0.0, 0.12) * (1 - np.float32(0.7) * cracks)
    if form.ring:
        area *= 1 - outline.inner(0.12, 0.30)
    canvas.white += np.float32(0.35 + 0.4 * form.scale) * area
    canvas.yellow += np.float32(0.10) * area
    canvas.height += np.float32(0.02) * area


def paint_crust(
    canvas: Canvas, case: Case, outline: Outline, generator: np.random.Generator
) -> None:
    """Yellow-brown dried serum on part of the lesion."""
    strength = case.morphology.crust
    lumps = canvas.noise("clouds", 0.24 * canvas.radius, generator)
    area = outline.spot(generator, 0.3 * generator.random(), 0.3 + 0.35 * strength)
    area = smoothstep(0.5, 0.95, area + np.float32(0.22) * lumps) * outline.inner(0.0, 0.12)
    canvas.yellow += np.float32(0.55) * area
    canvas.blood += np.float32(0.25 * generator.random()) * area
    canvas.white += np.float32(0.30) * area
    canvas.height += np.float32(0.05) * area * (1 + np.float32(0.2) * lumps)


def _dots(
    canvas: Canvas, number: int, sizes: tuple[float, float], generator: np.random.Generator
) -> np.ndarray:
    angle = generator.uniform(0, 2 * np.pi, number)
    distance = 0.92 * canvas.radius * np.sqrt(generator.random(number))
    centres = np.stack([distance * np.cos(angle), distance * np.sin(angle)], axis=1)
    radii = canvas.radius * generator.uniform(*sizes, number)
    return canvas.discs(centres, radii, blur=0.008 * canvas.radius)
