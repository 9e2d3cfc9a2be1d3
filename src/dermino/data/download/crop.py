"""Cutting the boxes of a list out of its pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageOps, UnidentifiedImageError

from dermino.data.download.failures import Dead
from dermino.data.download.target import Crop
from dermino.data.lesion_list import pixel_box
from dermino.files import atomic_path

# Pillow knows more, among them PostScript, which it would hand to another program.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")


def check_picture(path: Path) -> None:
    """Decode a picture whole; Dead if it is none, as when a dead link leads to a page of words."""
    with _opened(path) as image:
        _load(image)


def cut(path: Path, crops: Sequence[Crop], folder: Path) -> None:
    """Write the crops of a picture as PNG files below ``folder``.

    Boxes are relative to the picture as it is stored, as the publisher's script takes them, and
    what is cut out is turned upright. A box without height or width is the whole picture.

    Raises
    ------
    Dead
        If ``path`` is not a readable picture.
    """
    with _opened(path) as image:
        _load(image)
        for crop in crops:
            part = image.crop(pixel_box(*crop.box, image.size))
            upright = ImageOps.exif_transpose(part).convert("RGB")
            with atomic_path(folder / crop.path, sync=False) as temporary:
                upright.save(temporary, "PNG")


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path, formats=_FORMATS)
    except Image.DecompressionBombError as error:
        raise Dead("picture is too large", str(error)) from error
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise Dead("not a picture") from error


def _load(image: Image.Image) -> None:
    try:
        image.load()
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise Dead("picture is damaged", str(error)) from error
