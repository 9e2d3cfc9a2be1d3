"""Thumbnails that a page can hold."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dermino.data.images import UnreadableImage, read_image
from dermino.data.reference import Reference, locate

SIDE = 128
_QUALITY = 78


def square_thumbnail(path: Reference) -> str | None:
    """Return the middle square of a picture as a data URI, or None where it cannot be read."""
    picture = open_picture(path, SIDE)
    if picture is None:
        return None
    return encode(ImageOps.fit(picture, (SIDE, SIDE), Image.Resampling.LANCZOS))


def open_picture(path: Reference, side: int | None = None) -> Image.Image | None:
    """Read a picture upright as RGB, or None where it cannot be read.

    Parameters
    ----------
    path:
        The picture.
    side:
        Its shorter side needs no more pixels than this. Default: all that there are.
    """
    try:
        pixels = read_image(path, min_side=side)
    except UnreadableImage:
        return None
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def image_below(root: str, image: str) -> Reference:
    """Return where an image of a task lies."""
    return locate(Path(root), image)


def encode(picture: Image.Image) -> str:
    """Return a picture as a JPEG data URI."""
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def outline(mask: np.ndarray) -> np.ndarray:
    """Return the pixels of a mask (H, W), bool, that touch its outside or the picture's edge."""
    inner = np.pad(mask, 1)
    inside = inner[:-2, 1:-1] & inner[2:, 1:-1] & inner[1:-1, :-2] & inner[1:-1, 2:]
    return mask & ~inside
