"""Reading a lesion mask: two values, as large as its picture, whatever format it has."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from dermino.data.images import decode, open_image, read_bytes, upright_size
from dermino.data.reference import Reference
from dermino.errors import UserError

_SHOWN = 6


def read_lesion_mask(path: Reference, image: Reference, size: tuple[int, int]) -> Image.Image:
    """Read the mask of a picture.

    Parameters
    ----------
    path:
        The mask.
    image:
        Its picture, for messages.
    size:
        (height, width) of the picture, upright.

    Returns
    -------
    Image.Image
        In mode ``1``, lesion true, if the file has one bit a pixel, else in mode ``L`` with
        lesion 255.

    Raises
    ------
    UserError
        If it is no picture, has more than two values, colours, or another size than its picture.
    """
    data = read_bytes(path)
    stored = open_image(data, path)
    bilevel = stored.mode == "1"
    mask_size = upright_size(stored)
    if mask_size != size:
        raise UserError(
            f"The mask '{path}' has {_size(mask_size)} pixels, its image '{image}' {_size(size)}.",
            "Give the mask that belongs to this picture, or resize it without mixing its values.",
        )
    pixels = decode(stored, data, path)
    if not (torch.equal(pixels[0], pixels[1]) and torch.equal(pixels[0], pixels[2])):
        raise UserError(
            f"The mask '{path}' is coloured.",
            "A lesion mask has two values, 0 and lesion: choose one class and write it so.",
        )
    # Scaled to 8 bits, a lesion of value 1 in 16 bits would be lost.
    values = np.asarray(stored) if stored.mode.startswith("I") else pixels[0].numpy()
    lesion = _binary(values, path)
    mask = Image.fromarray(lesion.astype(np.uint8) * 255)
    return mask.convert("1", dither=Image.Dither.NONE) if bilevel else mask


def _binary(grey: np.ndarray, path: Reference) -> np.ndarray:
    values = np.flatnonzero(np.bincount(grey.ravel())).tolist()
    foreground = [value for value in values if value]
    if len(foreground) <= 1:
        return grey > 0
    shown = ", ".join(map(str, values[:_SHOWN])) + (", ..." if len(values) > _SHOWN else "")
    raise UserError(
        f"The mask '{path}' has {len(values)} different values ({shown}).",
        "A lesion mask has two, 0 and lesion. Write one class of several as 0 and 255; make grey "
        "edges, as JPEG and smooth resizing leave them, black and white at a threshold.",
    )


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"
