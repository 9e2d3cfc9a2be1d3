"""Random resized crops as uint8, the part of augmentation that must run beside the decoder."""

from __future__ import annotations

import math

import numpy as np
import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

_ASPECT_RATIO = (3 / 4, 4 / 3)
_TRIES = 10


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


def random_resized_crop(
    image: torch.Tensor,
    size: int,
    scale: tuple[float, float],
    generator: np.random.Generator,
) -> torch.Tensor:
    """Cut a random box, resize it (bicubic, antialiased) and flip it half of the time.

    Parameters
    ----------
    image:
        (3, H, W) uint8.
    size:
        Side of the result, pixels.
    scale:
        Range of the box's share of the image's area.

    Returns
    -------
    (3, size, size) uint8.
    """
    top, left, height, width = random_box(image.shape[1], image.shape[2], scale, generator)
    crop = image[:, top : top + height, left : left + width]
    crop = F.resize(crop, [size, size], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return crop.flip(-1) if generator.random() < 0.5 else crop
