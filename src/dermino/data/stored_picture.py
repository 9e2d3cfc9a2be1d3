"""Pictures as bytes to be stored again: unchanged, or reduced when they are too large."""

from __future__ import annotations

import io
import math

from PIL import Image, ImageOps

from dermino.data.images import JPEG_FORMATS, UnreadableImage, decode, open_image, read_bytes
from dermino.data.reference import Reference

_SUFFIXES = {
    "JPEG": "jpg",
    "MPO": "jpg",
    "PNG": "png",
    "TIFF": "tif",
    "BMP": "bmp",
    "WEBP": "webp",
    "GIF": "gif",
    "JPEG2000": "jp2",
    "PPM": "ppm",
}
_JPEG_QUALITY = 95


def stored_picture(path: Reference, max_side: int | None = None) -> tuple[str, bytes]:
    """Return suffix and bytes of a picture whose longer side is at most ``max_side`` pixels.

    A picture that is small enough keeps its bytes. A larger one is turned upright and made
    smaller; JPEG stays JPEG, at quality 95, all others become PNG.

    Raises
    ------
    UnreadableImage
        If it is no picture, or its pixels are needed and damaged.
    """
    data = read_bytes(path)
    picture = open_image(data, path)
    suffix = _SUFFIXES[picture.format or "PNG"]
    if max_side is None or max(picture.size) <= max_side:
        return suffix, data
    lossy = picture.format in JPEG_FORMATS
    shorter = math.ceil(min(picture.size) * max_side / max(picture.size))
    pixels = decode(picture, data, path, min_side=shorter)
    small = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    small.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=None)
    return ("jpg" if lossy else "png"), _encoded(small, lossy)


def stored_mask(path: Reference, max_side: int | None = None) -> tuple[str, bytes]:
    """Return suffix and bytes of a mask, reduced like its picture without mixing its values.

    Raises
    ------
    UnreadableImage
        If it is no picture, or its pixels are needed and damaged.
    """
    data = read_bytes(path)
    mask = open_image(data, path)
    suffix = _SUFFIXES[mask.format or "PNG"]
    if max_side is None or max(mask.size) <= max_side:
        return suffix, data
    try:
        upright = ImageOps.exif_transpose(mask)
        upright.thumbnail((max_side, max_side), Image.Resampling.NEAREST)
        return "png", _encoded(upright, lossy=False)
    except Exception as error:  # Pillow's plug-ins raise anything on damaged data.
        raise UnreadableImage(path, "its pixels cannot be decoded", error) from error


def _encoded(picture: Image.Image, lossy: bool) -> bytes:
    buffer = io.BytesIO()
    if lossy:
        picture.save(buffer, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
    else:
        picture.save(buffer, format="PNG")
    return buffer.getvalue()
