"""The piece of skin in view: coordinates in mm, layers of pigment, and ways to draw on them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from dermino.data.generate.case import Case
from dermino.data.generate.noise import FEATURE, MAX_LEVEL, Kind, plane

LAYERS = ("melanin", "dermal", "blood", "yellow", "white", "height")
_OVERSAMPLE = 2


class Canvas:
    """Maps of what colours the skin, in the frame of the lesion.

    Attributes
    ----------
    x, y:
        Position relative to the lesion's centre in mm, shape (size, size), float32.
    melanin, dermal, blood, yellow:
        Optical density of epidermal melanin, melanin in the dermis, haemoglobin and keratin or
        serum, shape (size, size), float32.
    white:
        Share of the light scattered back before it meets a pigment (scale, scar), 0..1.
    height:
        Elevation, in lesion radii.
    """

    melanin: np.ndarray
    dermal: np.ndarray
    blood: np.ndarray
    yellow: np.ndarray
    white: np.ndarray
    height: np.ndarray

    def __init__(self, case: Case) -> None:
        self.size = case.size
        self.field = case.field_of_view
        self.radius = case.diameter / 2
        self.pixel = case.field_of_view / case.size
        shift_x, shift_y = case.photograph.shift
        self._centre = (case.size * (0.5 + shift_x), case.size * (0.5 + shift_y))
        self._cos = math.cos(case.photograph.rotation)
        self._sin = math.sin(case.photograph.rotation)
        columns = (np.arange(self.size, dtype=np.float32) + 0.5 - self._centre[0]) * self.pixel
        rows = (np.arange(self.size, dtype=np.float32) + 0.5 - self._centre[1]) * self.pixel
        self.x = np.float32(self._cos) * columns - np.float32(self._sin) * rows[:, None]
        self.y = np.float32(self._sin) * columns + np.float32(self._cos) * rows[:, None]
        self.layers = np.zeros((len(LAYERS), self.size, self.size), np.float32)
        for name, layer in zip(LAYERS, self.layers, strict=True):
            setattr(self, name, layer)

    def detail(self, width: float) -> float:
        """Return ``width`` in mm, or the least width that a small picture can still show."""
        return max(width, 0.018 * self.field)

    def noise(
        self, kind: Kind, scale: float, generator: np.random.Generator, stretch: float = 1.0
    ) -> np.ndarray:
        """Return noise that moves with the skin, shape (size, size), float32.

        Parameters
        ----------
        kind:
            A tile of :mod:`dermino.data.generate.noise`.
        scale:
            Width of one feature in mm.
        generator:
            Draws which part of the tile is seen, and at what angle.
        stretch:
            How much narrower a feature is across its own axis.
        """
        angle, *offset = generator.random(3)
        density = FEATURE[kind] / scale * self.pixel
        level = min(max(0, math.ceil(math.log2(density * stretch))), MAX_LEVEL)
        extent = math.ceil(1.5 * self.size * max(1.0, density * stretch / 2**level))
        tile, period = plane(kind, level, extent)
        density /= 2**level
        cos, sin = math.cos(2 * math.pi * angle), math.sin(2 * math.pi * angle)
        # Tile <- lesion frame (turned by `angle`, stretched) <- picture (turned by the camera).
        a = density * (cos * self._cos - sin * self._sin)
        b = -density * (cos * self._sin + sin * self._cos)
        d = density * stretch * (sin * self._cos + cos * self._sin)
        e = density * stretch * (cos * self._cos - sin * self._sin)
        c = offset[0] * period - a * self._centre[0] - b * self._centre[1]
        f = offset[1] * period - d * self._centre[0] - e * self._centre[1]
        c += _whole_periods(c + min(a, 0) * self.size + min(b, 0) * self.size, period)
        f += _whole_periods(f + min(d, 0) * self.size + min(e, 0) * self.size, period)
        # Broad clouds lose nothing at half the resolution, and grain nothing without interpolation.
        coarse = (self.size + 1) // 2 if kind == "clouds" and scale > self.field / 10 else self.size
        step = self.size / coarse
        seen = tile.transform(
            (coarse, coarse),
            Image.Transform.AFFINE,
            (a * step, b * step, c, d * step, e * step, f),
            Image.Resampling.NEAREST if kind == "grain" else Image.Resampling.BILINEAR,
        )
        if coarse < self.size:
            seen = seen.resize((self.size, self.size), Image.Resampling.BILINEAR)
        return np.asarray(seen)

    def to_pixels(self, points: np.ndarray) -> np.ndarray:
        """Turn points in mm, shape (n, 2), into picture coordinates in pixels."""
        x, y = points[:, 0], points[:, 1]
        columns = (self._cos * x + self._sin * y) / self.pixel + self._centre[0]
        rows = (self._cos * y - self._sin * x) / self.pixel + self._centre[1]
        return np.stack([columns, rows], axis=1)

    def lines(
        self, lines: Iterable[np.ndarray], widths: Sequence[float], blur: float = 0.0
    ) -> np.ndarray:
        """Draw polylines given in mm; see :func:`draw_lines`."""
        points = [self.to_pixels(line) for line in lines]
        return draw_lines(self.size, points, [width / self.pixel for width in widths], blur)

    def discs(self, centres: np.ndarray, radii: np.ndarray, blur: float = 0.0) -> np.ndarray:
        """Draw discs given in mm, blurred by ``blur`` mm: shape (size, size), float32, 0..1."""
        sheet = Image.new("L", (self.size * _OVERSAMPLE,) * 2)
        draw = ImageDraw.Draw(sheet)
        pixels = self.to_pixels(centres) * _OVERSAMPLE
        for (column, row), radius in zip(pixels, radii / self.pixel * _OVERSAMPLE, strict=True):
            draw.ellipse((column - radius, row - radius, column + radius, row + radius), fill=255)
        return _finish(sheet, blur / self.pixel)


def draw_lines(
    size: int, lines: Iterable[np.ndarray], widths: Sequence[float], blur: float = 0.0
) -> np.ndarray:
    """Draw anti-aliased polylines; a line thinner than a pixel becomes fainter instead.

    Parameters
    ----------
    size:
        Width of the picture in pixels.
    lines:
        Points in pixels, each of shape (n, 2).
    widths:
        Width of each line in pixels.
    blur:
        Standard deviation of a final blur in pixels.

    Returns
    -------
    Coverage, shape (size, size), float32, 0..1.
    """
    sheet = Image.new("L", (size * _OVERSAMPLE,) * 2)
    draw = ImageDraw.Draw(sheet)
    for line, width in zip(lines, widths, strict=True):
        wide = width * _OVERSAMPLE
        strength = round(255 * min(1.0, max(0.3, wide)))
        points = (line * _OVERSAMPLE).astype(np.float32).ravel().tolist()
        draw.line(points, fill=strength, width=max(1, round(wide)), joint="curve")
    return _finish(sheet, blur)


def smoothstep(low: float, high: float, values: np.ndarray) -> np.ndarray:
    """Rise smoothly from 0 at ``low`` to 1 at ``high``."""
    t = np.clip((values - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return t * t * (3 - 2 * t)


def _finish(sheet: Image.Image, blur: float) -> np.ndarray:
    small = sheet.reduce(_OVERSAMPLE)
    if blur > 0.2:
        small = small.filter(ImageFilter.GaussianBlur(blur))
    return np.asarray(small, np.float32) * np.float32(1 / 255)


def _whole_periods(smallest: float, period: int) -> float:
    return float(-math.floor(smallest / period) * period)
