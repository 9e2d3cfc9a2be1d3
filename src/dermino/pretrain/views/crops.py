"""Random resized crops as uint8, the part of augmentation that must run beside the decoder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

_ASPECT_RATIO = (3 / 4, 4 / 3)
_TRIES = 10


@dataclass(frozen=True)
class Crop:
    """A crop that was drawn, but not cut yet.

    Parameters
    ----------
    size:
        Side of the result, pixels.
    box:
        Top, left, height and width, in pixels of the picture at its full size.
    picture:
        Height and width of the picture at its full size.
    flipped:
        Left is right.
    """

    size: int
    box: tuple[int, int, int, int]
    picture: tuple[int, int]
    flipped: bool

    def box_at(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the box in pixels of the picture decoded at another size."""
        vertical, horizontal = height / self.picture[0], width / self.picture[1]
        top, left, box_height, box_width = self.box
        box_height = max(round(box_height * vertical), 1)
        box_width = max(round(box_width * horizontal), 1)
        return (
            min(round(top * vertical), height - box_height),
            min(round(left * horizontal), width - box_width),
            box_height,
            box_width,
        )


def random_box(
    height: int, width: int, scale: tuple[float, float], generator: np.random.Generator
) -> tuple[int, int, int, int]:
    """Draw a box (top, left, height, width) as torchvision's RandomResizedCrop does.

    Parameters
    ----------
    height, width:
        Size of the image, pixels.
    scale:
        Range of the box's share of the image's area.
    generator:
        Source of randomness.
    """
    area = height * width
    low, high = math.log(_ASPECT_RATIO[0]), math.log(_ASPECT_RATIO[1])
    for _ in range(_TRIES):
        target = area * generator.uniform(*scale)
        ratio = math.exp(generator.uniform(low, high))
        box_width = round(math.sqrt(target * ratio))
        box_height = round(math.sqrt(target / ratio))
        if 0 < box_width <= width and 0 < box_height <= height:
            top = int(generator.integers(0, height - box_height + 1))
            left = int(generator.integers(0, width - box_width + 1))
            return top, left, box_height, box_width
    ratio = width / height
    box_height, box_width = height, width
    if ratio < _ASPECT_RATIO[0]:
        box_height = min(round(width / _ASPECT_RATIO[0]), height)
    elif ratio > _ASPECT_RATIO[1]:
        box_width = min(round(height * _ASPECT_RATIO[1]), width)
    return (height - box_height) // 2, (width - box_width) // 2, box_height, box_width


def draw_crop(
    picture: tuple[int, int], size: int, scale: tuple[float, float], generator: np.random.Generator
) -> Crop:
    """Draw a box, and whether to flip it, which happens half of the time.

    Parameters
    ----------
    picture:
        Height and width of the picture, pixels.
    size:
        Side of the result, pixels.
    scale:
        Range of the box's share of the picture's area.
    """
    box = random_box(*picture, scale, generator)
    return Crop(size, box, picture, bool(generator.random() < 0.5))


def sufficient_side(crops: Sequence[Crop]) -> int:
    """Return the shorter side, in pixels, at which the picture is decoded large enough.

    Each box then has at least the pixels of its crop, unless it has fewer at full size.
    """
    return math.ceil(max(crop.size * min(crop.picture) / min(crop.box[2:]) for crop in crops))


def cut(image: torch.Tensor, crops: Sequence[Crop]) -> torch.Tensor:
    """Cut, resize (bicubic, antialiased) and flip crops of one size.

    Parameters
    ----------
    image:
        (3, H, W) uint8, the picture at full or at reduced size. Channels last is faster.
    crops:
        V crops of that picture.

    Returns
    -------
    (V, 3, S, S) uint8, channels last; (0, 3, 0, 0) of no crops.
    """
    size = crops[0].size if crops else 0
    views = torch.empty(
        len(crops), 3, size, size, dtype=torch.uint8, memory_format=torch.channels_last
    )
    for view, crop in zip(views, crops, strict=True):
        top, left, height, width = crop.box_at(image.shape[1], image.shape[2])
        box = image[None, :, top : top + height, left : left + width]
        # torchvision's resize gives the same pixels, but takes a tenth longer; and a copy of the
        # box by rows is faster than the kernel's own, pixel by pixel.
        resized = F.interpolate(
            box.contiguous(memory_format=torch.channels_last),
            size=(size, size),
            mode="bicubic",
            antialias=True,
        )
        view.copy_(resized[0].flip(-1) if crop.flipped else resized[0])
    return views
