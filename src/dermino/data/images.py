"""Reading one picture: whatever the camera, scanner or web site wrote, out comes RGB."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from contextlib import suppress

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from dermino.data.reference import Reference, read
from dermino.errors import UserError

try:
    from torchvision.io import ImageReadMode, decode_jpeg
except ImportError:  # torchvision announces the removal of its decoders; Pillow then does it all.
    decode_jpeg = None

MAX_PIXELS = 150_000_000
JPEG_FORMATS = frozenset({"JPEG", "MPO"})
_LYING = frozenset({5, 6, 7, 8})  # EXIF orientations that swap width and height.
# Pillow knows more, among them PostScript, which it would hand to another program.
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "WEBP", "GIF", "JPEG2000", "PPM")

# MAX_PIXELS takes the place of Pillow's own warning.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


class UnreadableImage(UserError):  # noqa: N818 - the state of a file, caught far more than raised.
    """A file that cannot be used as a picture.

    Parameters
    ----------
    path:
        The file, or the member of a container, or the URL.
    reason:
        What is wrong with it, in a few words that are the same for all such files.
    detail:
        What the decoder said of this one.
    """

    def __init__(self, path: Reference, reason: str, detail: object = "") -> None:
        super().__init__(
            f"Cannot read the image '{path}': {reason}{f' ({detail})' if detail else ''}.",
            "Replace the file, or set it aside with: dermino data check",
        )
        self.path = path
        self.reason = reason
        self.detail = str(detail)

    def __reduce__(self) -> tuple[type[UnreadableImage], tuple[Reference, str, str]]:
        return type(self), (self.path, self.reason, self.detail)


def read_image(
    path: Reference,
    min_side: int | None = None,
    reader: Callable[[Reference], bytes] = read,
) -> Tensor:
    """Read a picture as RGB, turned upright.

    EXIF orientation is applied; grey, palette, CMYK and 16-bit pictures are converted (16 bits
    are scaled to 8); transparency is laid on white; of an animation the first frame is taken.
    Colour profiles are not applied.

    Parameters
    ----------
    path:
        The file, or the member of a container, or the URL.
    min_side:
        A JPEG may be decoded at 1/2, 1/4 or 1/8 of its size as long as its shorter side keeps at
        least this many pixels. Other formats are always decoded in full.
    reader:
        What reads the bytes, as for :func:`read_bytes`.

    Returns
    -------
    Tensor
        (3, H, W), uint8. Its memory may be channels last.

    Raises
    ------
    UnreadableImage
        If the file is missing, empty, truncated, no picture, or larger than ``MAX_PIXELS``.
    """
    data = read_bytes(path, reader)
    return decode(open_image(data, path), data, path, min_side)


def read_bytes(path: Reference, reader: Callable[[Reference], bytes] = read) -> bytes:
    """Read a reference whole; an :class:`UnreadableImage` says why it cannot be.

    ``reader`` is what reads it, where that is not :func:`dermino.data.reference.read`.
    """
    try:
        data = reader(path)
    except FileNotFoundError:
        raise UnreadableImage(path, "there is no such file") from None
    except OSError as error:
        raise UnreadableImage(path, "it cannot be opened", error.strerror or error) from error
    if not data:
        raise UnreadableImage(path, "the file is empty")
    return data


def open_image(data: bytes, path: Reference) -> Image.Image:
    """Read the header of the picture in ``data``; its pixels are not decoded.

    Raises
    ------
    UnreadableImage
        If it is no picture or larger than ``MAX_PIXELS``. ``path`` is for the message.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        raise UnreadableImage(path, "it is not a picture in a known format") from None
    except Image.DecompressionBombError as error:
        raise UnreadableImage(path, "it has too many pixels", error) from error
    except Exception as error:  # Pillow's plug-ins raise anything on a damaged header.
        raise UnreadableImage(path, "its header is damaged", error) from error
    width, height = image.size
    if width * height > MAX_PIXELS:
        size = f"{width} x {height}, the limit is {MAX_PIXELS:,}"
        raise UnreadableImage(path, "it has too many pixels", size)
    return image


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Return the (height, width) that :func:`decode` makes of what :func:`open_image` opened.

    Only the header of a JPEG is read for it. Nothing is raised: what is wrong with the pixels,
    :func:`decode` says.
    """
    try:
        if image.format not in JPEG_FORMATS:
            image.load()  # Their EXIF may follow the pixels, which are needed in full anyway.
        lying = image.getexif().get(ExifTags.Base.Orientation) in _LYING
    except Exception:  # Pillow's plug-ins raise anything on damaged data.
        lying = False
    width, height = image.size
    return (width, height) if lying else (height, width)


def decode(image: Image.Image, data: bytes, path: Reference, min_side: int | None = None) -> Tensor:
    """Decode what :func:`open_image` opened; parameters and result as for :func:`read_image`.

    Raises
    ------
    UnreadableImage
        If its pixels are truncated, damaged or of unknown range. ``path`` is for the message.
    """
    if image.format in JPEG_FORMATS and min_side is not None and min(image.size) >= 2 * min_side:
        # At half size, Pillow's scaled decoding takes as long as torchvision's full one, at a
        # quarter less; and what follows has a quarter of the pixels to resize.
        image.draft("RGB", (min_side, min_side))
    elif image.format in JPEG_FORMATS and image.mode in {"RGB", "L"} and decode_jpeg is not None:
        # torchvision gives the same pixels in half the time. Not so for PNG: its decoder gains
        # a tenth, and crashes the process on damaged files.
        try:
            return decode_jpeg(
                torch.frombuffer(bytearray(data), dtype=torch.uint8),
                mode=ImageReadMode.RGB,
                apply_exif_orientation=True,
            )
        except RuntimeError:
            pass  # Pillow decides whether the file is unreadable, and says why.
    try:
        image.load()
        _turn_upright(image)
        return torch.from_numpy(_to_rgb(image)).permute(2, 0, 1)
    except Exception as error:  # Pillow's plug-ins raise anything on damaged data.
        raise UnreadableImage(path, "its pixels cannot be decoded", error) from error


def _turn_upright(image: Image.Image) -> None:
    # Damaged EXIF says nothing about orientation; the pixels are whole.
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _to_rgb(image: Image.Image) -> np.ndarray:
    if image.mode.startswith("I"):
        image = Image.fromarray(_to_8_bit(np.asarray(image)))
    elif image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _to_8_bit(pixels: np.ndarray) -> np.ndarray:
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError("32-bit pixels have no known range")
    return np.round(pixels / 257).astype(np.uint8)
