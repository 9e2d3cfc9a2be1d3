"""From skin to picture: light, body curvature, hair, ruler, pen, gel, dermatoscope, sensor."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dermino.data.generate.canvas import Canvas, draw_lines, smoothstep
from dermino.data.generate.case import Case
from dermino.data.generate.optics import colour

_INK = np.array([0.36, 0.27, 0.55], np.float32)


def take_picture(canvas: Canvas, case: Case) -> np.ndarray:
    """Photograph the canvas.

    Returns
    -------
    sRGB, shape (size, size, 3), uint8.
    """
    generator = case.visit_stream(0)
    shot = case.photograph
    picture = colour(canvas.layers)
    if shot.pen:
        _draw_pen(picture, canvas, generator)
    light, gloss = _light(canvas, case, generator)
    picture *= np.exp(light)
    picture *= np.exp(np.asarray(shot.tint, np.float32))[:, None, None]
    if gloss is not None:
        picture += gloss
    if shot.hairs:
        _draw_hair(picture, case, generator)
    if shot.ruler:
        _draw_ruler(picture, case, generator)
    if shot.bubbles:
        _draw_bubbles(picture, case, generator)
    if shot.vignette:
        _darken_rim(picture, case, generator)
    return _develop(picture, case, generator)


def _light(
    canvas: Canvas, case: Case, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray | None]:
    """Log light on each pixel, and the gloss where the surface mirrors the lamp."""
    shot, size = case.photograph, case.size
    across = np.linspace(-0.5, 0.5, size, dtype=np.float32)
    light = shot.exposure + shot.gradient[0] * across + shot.gradient[1] * across[:, None]
    if shot.curvature:
        angle = generator.uniform(0, np.pi)
        away = np.cos(angle) * across + np.sin(angle) * across[:, None]
        turned = np.float32(2 * shot.curvature) * (away + np.float32(generator.normal(0, 0.1)))
        light = light + np.log(np.maximum(1 - turned * turned, np.float32(0.12))) * 0.7
    clinical = case.modality == "clinical"
    lamp = generator.uniform(0, 2 * np.pi)
    relief = canvas.radius / canvas.pixel * (0.75 if clinical else 0.22)
    slope = np.zeros((size, size), np.float32)
    slope[1:, 1:] = np.cos(lamp) * (canvas.height[1:, 1:] - canvas.height[1:, :-1])
    slope[1:, 1:] += np.sin(lamp) * (canvas.height[1:, 1:] - canvas.height[:-1, 1:])
    slope *= np.float32(relief)
    np.clip(slope, -0.9, 0.9, out=slope)
    light = light + np.float32(0.55) * slope
    if not clinical:
        return light.astype(np.float32), None
    sparkle = canvas.noise("grain", 0.010 * case.field_of_view, generator)
    shine = smoothstep(0.20, 1.1, slope + np.float32(0.11) * sparkle)
    return light.astype(np.float32), np.float32(0.35 * generator.random()) * shine


def _draw_hair(picture: np.ndarray, case: Case, generator: np.random.Generator) -> None:
    """Curved hairs that share a rough direction, darker along one side by their shadow."""
    shot, size = case.photograph, case.size
    heading = generator.uniform(0, 2 * np.pi)
    width = size * generator.uniform(0.0035, 0.0075)
    steps = np.linspace(0, 1, 9)[:, None]
    lines = []
    for _ in range(shot.hairs):
        direction = heading + generator.normal(0, 0.45)
        length = size * generator.uniform(0.15, 0.75)
        root = generator.uniform(-0.1, 1.1, 2) * size
        bend = direction + generator.normal(0, 0.5)
        middle = root + 0.5 * length * np.array([np.cos(direction), np.sin(direction)])
        tip = middle + 0.5 * length * np.array([np.cos(bend), np.sin(bend)])
        lines.append((1 - steps) ** 2 * root + 2 * steps * (1 - steps) * middle + steps**2 * tip)
    widths = width * generator.uniform(0.6, 1.3, shot.hairs)
    cover = draw_lines(size, lines, widths.tolist())
    shadow = np.roll(cover, (1, 2), axis=(0, 1))
    picture *= 1 - np.float32(0.16) * shadow
    hair = np.array(shot.hair_colour, np.float32) / 255 * np.exp(np.float32(shot.exposure))
    _blend(picture, hair, np.float32(0.85) * cover)


def _draw_ruler(picture: np.ndarray, case: Case, generator: np.random.Generator) -> None:
    """A scale along one edge whose small ticks are 1 mm apart, or 5 mm where those would blur."""
    size = case.size
    millimetre = size / case.field_of_view
    unit = millimetre if millimetre >= 0.02 * size else 5 * millimetre
    place = np.arange(generator.uniform(0, unit), size, unit)
    depth = 0.15 * size * generator.uniform(0.7, 1.0)
    paper = case.modality == "clinical"
    edge = 0.0 if paper else 0.02 * size
    lines = []
    for number, column in enumerate(place):
        tall = 0.55 if number % 5 == 0 else 0.30
        lines.append(np.array([[column, edge], [column, edge + tall * depth]]))
    if not paper:
        lines.append(np.array([[0, edge], [size, edge]]))
    ticks = draw_lines(size, lines, [0.006 * size] * len(lines))
    strip = np.zeros((size, size), np.float32)
    strip[: round(depth)] = float(paper)
    turns, flipped = int(generator.integers(4)), bool(generator.integers(2))
    ticks, strip = (np.rot90(np.fliplr(m) if flipped else m, turns) for m in (ticks, strip))
    tint = np.exp(np.asarray(case.photograph.tint, np.float32) + case.photograph.exposure)
    if paper:
        white = np.array([0.93, 0.92, 0.88], np.float32) * tint
        _blend(picture, white * generator.uniform(0.85, 1.0), strip)
    _blend(picture, np.array([0.10, 0.09, 0.10], np.float32), np.float32(0.85) * ticks)


def _draw_pen(picture: np.ndarray, canvas: Canvas, generator: np.random.Generator) -> None:
    """A surgeon's mark: part of a hand-drawn ring round the lesion."""
    first, span = generator.uniform(0, 2 * np.pi), generator.uniform(3.5, 6.5)
    angle = np.linspace(first, first + span, 60)
    wobble = 1 + 0.05 * np.sin(2 * angle + first) + 0.03 * np.sin(3 * angle)
    radius = canvas.radius * generator.uniform(1.35, 1.6) * wobble
    ring = np.stack([radius * np.cos(angle), 0.9 * radius * np.sin(angle)], axis=1)
    width = 0.014 * canvas.field
    ink = canvas.lines([ring], [width], blur=0.004 * canvas.size)
    worn = canvas.noise("grain", 0.012 * canvas.field, generator)
    ink = ink * np.clip(np.float32(0.62) + np.float32(0.15) * worn, 0, 0.9)
    picture *= 1 - ink * (1 - _INK[:, None, None])


def _draw_bubbles(picture: np.ndarray, case: Case, generator: np.random.Generator) -> None:
    """Air in the immersion gel: a dark rim and a bright crescent."""
    size, scale = case.size, 2
    dark, bright = (Image.new("L", (size * scale,) * 2) for _ in range(2))
    pens = ImageDraw.Draw(dark), ImageDraw.Draw(bright)
    for _ in range(case.photograph.bubbles):
        x, y = generator.uniform(0, size * scale, 2)
        radius = size * scale * 0.008 * np.exp(generator.normal(0.5, 0.6))
        box = (x - radius, y - radius, x + radius, y + radius)
        pens[0].ellipse(box, outline=255, width=max(1, round(0.16 * radius)))
        radius *= 0.78
        box = (x - radius, y - radius, x + radius, y + radius)
        pens[1].arc(box, 190, 290, fill=255, width=max(1, round(0.2 * radius)))
    soft = [sheet.reduce(scale).filter(ImageFilter.GaussianBlur(0.4)) for sheet in (dark, bright)]
    shade, glint = (np.asarray(sheet, np.float32) / 255 for sheet in soft)
    picture *= 1 - np.float32(0.30) * shade
    _blend(picture, np.ones(3, np.float32), np.float32(0.75) * glint)


def _darken_rim(picture: np.ndarray, case: Case, generator: np.random.Generator) -> None:
    """Dark corners, or the black rim of the dermatoscope where the vignette is strong."""
    across = np.linspace(-1, 1, case.size, dtype=np.float32)
    shift = generator.normal(0, 0.03, 2).astype(np.float32)
    distance = np.hypot(across + shift[0], (across + shift[1])[:, None])
    strength = case.photograph.vignette
    if strength > 0.75:
        rim = smoothstep(1.32 - 0.3 * strength, 1.42 - 0.3 * strength, distance)
        picture *= 1 - np.float32(0.96) * rim
    falloff = np.maximum(distance - np.float32(0.45), 0)
    picture *= np.exp(np.float32(-1.1 * strength) * falloff * falloff)


def _develop(picture: np.ndarray, case: Case, generator: np.random.Generator) -> np.ndarray:
    size, shot = case.size, case.photograph
    picture *= 255
    picture += np.float32(shot.noise) * generator.standard_normal((size, size), np.float32)
    np.clip(picture, 0, 255, out=picture)
    image = np.ascontiguousarray(np.moveaxis(picture, 0, 2).astype(np.uint8))
    radius = shot.blur * size / 1000
    if radius > 0.3:
        image = np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))
    return image


def _blend(picture: np.ndarray, colour: np.ndarray, cover: np.ndarray) -> None:
    picture += cover * (colour.astype(np.float32)[:, None, None] - picture)
