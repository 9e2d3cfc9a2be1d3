"""Skin without a lesion: tone, mottling, furrows, pores, veins and the marks of the sun."""

from __future__ import annotations

import numpy as np

from dermino.data.generate.canvas import Canvas, smoothstep
from dermino.data.generate.case import Case
from dermino.data.generate.optics import RESTING_BLOOD, melanin_of


def paint_skin(canvas: Canvas, case: Case) -> None:
    """Fill the canvas with the patient's skin at this site; the same at every visit."""
    generator = case.lesion_stream(0)
    tone = melanin_of(case.ita)
    texture, field = case.texture, case.field_of_view
    clouds = canvas.noise("clouds", 0.30 * field, generator)
    patches = canvas.noise("clouds", 0.09 * field, generator)
    grain = canvas.noise("grain", 0.016 * field, generator)
    canvas.melanin += np.float32(tone) * (1 + np.float32(0.055) * clouds)
    canvas.melanin += np.float32(0.010 + 0.022 * tone) * (patches + np.float32(0.7) * grain)
    canvas.blood += np.float32(RESTING_BLOOD)
    canvas.blood += np.float32(0.018) * (clouds - patches) + np.float32(0.016 * texture) * grain
    np.maximum(canvas.blood, 0, out=canvas.blood)
    _furrows(canvas, case, generator)
    _pores(canvas, case, generator)
    if case.sun_damage:
        _lentigines(canvas, case, generator)


def _furrows(canvas: Canvas, case: Case, generator: np.random.Generator) -> None:
    """The fine criss-cross of skin lines; deeper on a clinical picture, where light rakes."""
    width = generator.uniform(0.022, 0.045) * case.field_of_view
    lines = canvas.noise("network", width, generator, stretch=generator.uniform(1.2, 2.2))
    strength = case.texture * (0.035 if case.modality == "dermoscopic" else 0.085)
    canvas.melanin += np.float32(0.6 * strength) * lines
    canvas.height -= np.float32(0.012 * strength / 0.05) * lines


def _pores(canvas: Canvas, case: Case, generator: np.random.Generator) -> None:
    pores = canvas.noise("globules", generator.uniform(0.035, 0.06) * case.field_of_view, generator)
    pale = generator.random() < 0.5
    strength = np.float32(0.09 * case.texture * generator.random())
    if pale:
        canvas.white += strength * pores
    else:
        canvas.melanin += strength * pores


def _lentigines(canvas: Canvas, case: Case, generator: np.random.Generator) -> None:
    blotches = canvas.noise(
        "clouds", generator.uniform(0.12, 0.4) * case.field_of_view, generator, 1.2
    )
    rarity = generator.uniform(0.5, 1.6)
    spots = smoothstep(rarity, rarity + 1.6, blotches)
    canvas.melanin += np.float32(0.28 * case.sun_damage) * spots
    canvas.blood += np.float32(0.08 * case.sun_damage) * smoothstep(0.0, 2.0, -blotches)
