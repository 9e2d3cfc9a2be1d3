"""Colour augmentation, drawn per view and applied to whole batches on the device.

Drawing and applying are apart: the numbers are drawn beside the crop, from the sample's own
generator, so a run gives the same pictures whatever the number of workers or devices.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations
from typing import Literal

import numpy as np
import torch
from torch.nn import functional as F

Blur = Literal["effective", "as_written"]


@dataclass(frozen=True)
class Photometric:
    """How one kind of view is coloured.

    Parameters
    ----------
    jitter, gray, blur, solarize:
        Probabilities.
    brightness, contrast, saturation:
        A jittered image's factors are uniform from 1 - x (at least 0) to 1 + x.
    hue:
        Its hue is shifted by up to this share of the colour circle.
    blur_radius:
        Half width of the blur's kernel, pixels.
    """

    jitter: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gray: float = 0.0
    blur: float = 0.0
    blur_radius: int = 4
    solarize: float = 0.0


UNCHANGED = Photometric()
_BYOL = Photometric(jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, gray=0.2)
# First global, second global and local view. DINOv2 hands its blur probability to torchvision as
# the probability of keeping the image, so its published models saw the complement of what its code
# seems to say.
DINOV2: dict[Blur, tuple[Photometric, Photometric, Photometric]] = {
    "effective": (
        replace(_BYOL, blur=0.0),
        replace(_BYOL, blur=0.9, solarize=0.2),
        replace(_BYOL, blur=0.5),
    ),
    "as_written": (
        replace(_BYOL, blur=1.0),
        replace(_BYOL, blur=0.1, solarize=0.2),
        replace(_BYOL, blur=0.5),
    ),
}
# The others blur with Pillow, whose kernel is not cut off; radius 6 is three of the widest sigma.
MOCOV3 = (
    replace(_BYOL, blur=1.0, blur_radius=6),
    replace(_BYOL, blur=0.1, blur_radius=6, solarize=0.2),
)
SWAV = Photometric(
    jitter=0.8,
    brightness=0.8,
    contrast=0.8,
    saturation=0.8,
    hue=0.2,
    gray=0.2,
    blur=0.5,
    blur_radius=6,
)

SOLARIZE_THRESHOLD = 128 / 255
BLUR_SIGMA = (0.1, 2.0)

# Columns of the parameters of one view.
_BRIGHTNESS, _CONTRAST, _SATURATION, _HUE, _ORDER, _GRAY, _SIGMA, _SOLARIZE, _RADIUS = range(9)
NUM_PARAMETERS = 9
_NO_JITTER = -1.0
_ORDERS = torch.tensor(list(permutations(range(4))))
_LUMA = (0.299, 0.587, 0.114)


def draw_photometric(policy: Photometric, generator: np.random.Generator) -> np.ndarray:
    """Draw the colour augmentation of one view.

    Returns
    -------
    (9,) float32: brightness, contrast and saturation factors, hue shift in turns, order of these
    four (-1 = none of them), gray, blur sigma in pixels (0 = none), solarise, blur radius in
    pixels.
    """
    drawn = np.zeros(NUM_PARAMETERS, dtype=np.float32)
    drawn[_ORDER] = _NO_JITTER
    if generator.random() < policy.jitter:
        for column, strength in (
            (_BRIGHTNESS, policy.brightness),
            (_CONTRAST, policy.contrast),
            (_SATURATION, policy.saturation),
        ):
            drawn[column] = generator.uniform(max(1 - strength, 0), 1 + strength)
        drawn[_HUE] = generator.uniform(-policy.hue, policy.hue)
        drawn[_ORDER] = generator.integers(len(_ORDERS))
    drawn[_GRAY] = generator.random() < policy.gray
    if generator.random() < policy.blur:
        drawn[_SIGMA] = generator.uniform(*BLUR_SIGMA)
        drawn[_RADIUS] = policy.blur_radius
    if policy.solarize:
        drawn[_SOLARIZE] = generator.random() < policy.solarize
    return drawn


def apply_photometric(images: torch.Tensor, parameters: torch.Tensor) -> torch.Tensor:
    """Apply drawn augmentations to a batch.

    Parameters
    ----------
    images:
        (B, 3, H, W) uint8, on any device.
    parameters:
        (B, 9) float32 of :func:`draw_photometric`, on the CPU (the grouping of samples needs their
        values and must not wait for the device).

    Returns
    -------
    (B, 3, H, W) float32 in [0, 1].
    """
    device = images.device
    # From the loader's channels last to planes, which are faster to colour.
    images = images.to(torch.float32, memory_format=torch.contiguous_format) / 255
    values = parameters.to(device, non_blocking=True)
    orders = parameters[:, _ORDER].long()
    for turn in range(4):
        operation = torch.where(orders >= 0, _ORDERS[orders.clamp(min=0), turn], -1)
        for index, adjust in enumerate(_ADJUSTMENTS):
            rows = torch.nonzero(operation == index).squeeze(1).to(device, non_blocking=True)
            if len(rows):
                factor = values[rows, index].view(-1, 1, 1, 1)
                images[rows] = adjust(images[rows], factor).clamp_(0, 1)
    rows = _rows(parameters[:, _GRAY] > 0, device)
    if len(rows):
        images[rows] = _gray(images[rows]).expand(-1, 3, -1, -1)
    for radius in parameters[:, _RADIUS].unique().tolist():
        if radius:
            rows = _rows(parameters[:, _RADIUS] == radius, device)
            images[rows] = gaussian_blur(images[rows], values[rows, _SIGMA], int(radius))
    rows = _rows(parameters[:, _SOLARIZE] > 0, device)
    if len(rows):
        chosen = images[rows]
        images[rows] = torch.where(chosen >= SOLARIZE_THRESHOLD, 1 - chosen, chosen)
    return images


def gaussian_blur(images: torch.Tensor, sigma: torch.Tensor, radius: int) -> torch.Tensor:
    """Blur each image with its own sigma, reflected at the border.

    Parameters
    ----------
    images:
        (B, 3, H, W) float.
    sigma:
        (B,) pixels.
    radius:
        Half width of the kernel, pixels.
    """
    batch, channels, height, width = images.shape
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (offsets / sigma.view(-1, 1)) ** 2)
    kernel = (kernel / kernel.sum(dim=1, keepdim=True)).repeat_interleave(channels, dim=0)
    flat = F.pad(images, [radius] * 4, mode="reflect").reshape(
        1, batch * channels, height + 2 * radius, width + 2 * radius
    )
    flat = F.conv2d(flat, kernel.view(batch * channels, 1, 1, -1), groups=batch * channels)
    flat = F.conv2d(flat, kernel.view(batch * channels, 1, -1, 1), groups=batch * channels)
    return flat.view(batch, channels, height, width)


def _rows(chosen: torch.Tensor, device: torch.device) -> torch.Tensor:
    return torch.nonzero(chosen).squeeze(1).to(device, non_blocking=True)


def _gray(images: torch.Tensor) -> torch.Tensor:
    red, green, blue = images.unbind(dim=1)
    return (_LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue).unsqueeze(1)


def _adjust_brightness(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return images * factor


def _adjust_contrast(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    mean = _gray(images).mean(dim=(1, 2, 3), keepdim=True)
    return torch.lerp(mean, images, factor)


def _adjust_saturation(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    return torch.lerp(_gray(images).expand_as(images), images, factor)


def _adjust_hue(images: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """Turn the hue: RGB to HSV, add the shift, back to RGB."""
    value, _ = images.max(dim=1, keepdim=True)
    chroma = value - images.min(dim=1, keepdim=True).values
    red, green, blue = images.split(1, dim=1)
    safe = chroma.clamp(min=1e-8)
    sextant = torch.where(
        value == red,
        (green - blue) / safe,
        torch.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sextant = sextant + 6 * shift
    # Each channel is the value less a trapezoid of the hue, shifted by 5, 3 and 1 sextants.
    offsets = torch.tensor([5.0, 3.0, 1.0], device=images.device).view(1, 3, 1, 1)
    position = (sextant + offsets) % 6
    return value - chroma * torch.minimum(position, 4 - position).clamp(0, 1)


_ADJUSTMENTS = (_adjust_brightness, _adjust_contrast, _adjust_saturation, _adjust_hue)
