"""How an image is made ready for an encoder when no augmentation is wanted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocess:
    """Resize the shorter side, crop the centre, normalise.

    Parameters
    ----------
    image_size:
        Side of the square that reaches the encoder, pixels.
    resize_size:
        Length of the shorter side before the centre crop, pixels. DINOv2 uses 256 for 224.
    mode:
        ``crop`` keeps the aspect ratio; ``squash`` resizes both sides to ``image_size``.
    """

    image_size: int = 224
    resize_size: int = 256
    mode: Literal["crop", "squash"] = "crop"
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    @classmethod
    def for_size(cls, image_size: int) -> Preprocess:
        """DINOv2's evaluation transform in the proportion 256 to 224."""
        return cls(image_size=image_size, resize_size=round(image_size * 256 / 224))

    def with_size(self, image_size: int) -> Preprocess:
        """Return the same for another side of the square, the margin in proportion."""
        resize_size = round(image_size * self.resize_size / self.image_size)
        return replace(self, image_size=image_size, resize_size=resize_size)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocess:
        """Read what :meth:`to_dict` wrote."""
        return cls(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def resize(self, image: torch.Tensor) -> torch.Tensor:
        """Resize and crop one uint8 image (3, H, W) to (3, image_size, image_size), uint8."""
        interpolation = InterpolationMode(self.interpolation)
        if self.mode == "squash":
            size = [self.image_size, self.image_size]
            return F.resize(image, size, interpolation=interpolation, antialias=True)
        image = F.resize(image, [self.resize_size], interpolation=interpolation, antialias=True)
        return F.center_crop(image, [self.image_size, self.image_size])

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """Apply the encoder's mean and deviation to a batch (B, 3, H, W), giving float32.

        uint8 images are taken as 0 to 255, floating ones as 0 to 1.
        """
        mean = torch.tensor(self.mean, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, 3, 1, 1)
        scaled = images if images.is_floating_point() else images.float() / 255
        return (scaled - mean) / std

    def denormalise(self, images: torch.Tensor) -> torch.Tensor:
        """Take back :meth:`normalise`: (B, 3, H, W) float32, 0 to 1."""
        mean = torch.tensor(self.mean, device=images.device).view(1, 3, 1, 1)
        std = torch.tensor(self.std, device=images.device).view(1, 3, 1, 1)
        return images * std + mean
