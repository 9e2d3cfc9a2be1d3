"""What happens to pictures on their way from one archive to another, done on purpose."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as F

_SQUARE = 256
_JPEG_QUALITY = 40
_KEPT = 0.9
_BRIGHTER = 1.15


def _halved(image: Tensor) -> Tensor:
    return F.resize(image, [max(1, side // 2) for side in image.shape[1:]], antialias=True)


def _squashed(image: Tensor) -> Tensor:
    return F.resize(image, [_SQUARE, _SQUARE], antialias=True)


def _recompressed(image: Tensor) -> Tensor:
    buffer = io.BytesIO()
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    picture.save(buffer, format="JPEG", quality=_JPEG_QUALITY)
    return torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1)


def _cropped(image: Tensor) -> Tensor:
    return F.center_crop(image, [max(1, round(_KEPT * side)) for side in image.shape[1:]])


def _brightened(image: Tensor) -> Tensor:
    return (image.float() * _BRIGHTER).clamp(max=255).round().to(torch.uint8)


def _turned(image: Tensor) -> Tensor:
    return image.rot90(1, (-2, -1))


# Each takes (3, H, W) uint8 and returns the like.
COPIES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "half the size": _halved,
    f"squashed to {_SQUARE} x {_SQUARE}": _squashed,
    f"JPEG of quality {_JPEG_QUALITY}": _recompressed,
    f"the middle {_KEPT:.0%} of each side": _cropped,
    f"{_BRIGHTER - 1:.0%} brighter": _brightened,
    "mirrored": F.horizontal_flip,
    "turned by 90 degrees": _turned,
}
