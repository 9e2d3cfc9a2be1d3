"""Fine-tuning a whole encoder on images: the network, the pictures it sees, its checkpoints."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import create_transform
from timm.layers import DropPath
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as F

from dermino.data.images import read_image
from dermino.data.reference import Reference
from dermino.errors import UserError
from dermino.evaluate.seeding import seeded_libraries
from dermino.files import atomic_path
from dermino.models.encoder import Encoder
from dermino.models.preprocess import Preprocess

_PATHS = ("drop_path", "drop_path1", "drop_path2")
_CHECKPOINT = "checkpoint.pt"


class FinetunedEncoder(nn.Module):
    """A copy of an encoder that may be trained, with a linear layer on its features.

    Parameters
    ----------
    encoder:
        Is copied, not changed.
    outputs:
        Number K of outputs; their weights start with deviation 1e-3, biases at zero.
    drop_path:
        Rate of stochastic depth in the last block; it rises linearly from 0 in the first.
    """

    def __init__(self, encoder: Encoder, outputs: int, drop_path: float) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).requires_grad_(True)
        self.head = nn.Linear(encoder.embed_dim, outputs, device=encoder.device)
        nn.init.trunc_normal_(self.head.weight, std=1e-3)
        nn.init.zeros_(self.head.bias)
        blocks = [
            module
            for module in self.encoder.backbone.modules()
            if any(isinstance(getattr(module, name, None), nn.Module) for name in _PATHS)
        ]
        for block, rate in zip(blocks, np.linspace(0, drop_path, len(blocks)), strict=True):
            for name in _PATHS:
                if isinstance(getattr(block, name, None), nn.Module):
                    setattr(block, name, DropPath(float(rate)) if rate else nn.Identity())

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return K outputs an image: (B, 3, H, W) normalised float32 -> (B, K)."""
        return self.head(self.encoder(pixels))

    def parameter_groups(self, weight_decay: float, layer_decay: float) -> list[dict[str, Any]]:
        """Return groups with ``lr_scale``: 1 at the head, ``layer_decay`` less each layer down.

        Biases, norms and what the backbone names itself do not decay.

        Raises
        ------
        UserError
            If the backbone does not say which of its weights belong to which layer.
        """
        backbone = self.encoder.backbone
        head = param_groups_weight_decay(self.head, weight_decay)
        if layer_decay == 1:
            return [*param_groups_weight_decay(backbone, weight_decay), *head]
        if not hasattr(backbone, "group_matcher"):
            raise UserError(
                f"The encoder '{self.encoder.name}' does not name its layers, so that their rates "
                "cannot differ.",
                "Use --set finetune.layer_decay=1.",
            )
        names = backbone.no_weight_decay() if hasattr(backbone, "no_weight_decay") else ()
        groups = param_groups_layer_decay(
            backbone, weight_decay, no_weight_decay_list=names, layer_decay=layer_decay
        )
        for group in groups:  # timm's uppermost layer is the classifier's, which is not in there.
            group["lr_scale"] *= layer_decay
        return [*groups, *head]


class TrainingImages(Dataset):
    """Augmented, normalised pictures; one is a function of seed, epoch and position alone.

    Parameters
    ----------
    paths:
        The pictures.
    preprocess:
        Size, mean and deviation.
    auto_augment:
        timm's name of an augmentation policy; empty for crops and flips alone.
    erasing:
        Probability of erasing a box.
    """

    def __init__(
        self, paths: Sequence[Reference], preprocess: Preprocess, auto_augment: str, erasing: float
    ) -> None:
        self.paths = paths
        self.transform = create_transform(
            preprocess.image_size,
            is_training=True,
            auto_augment=auto_augment or None,
            color_jitter=0.0,
            re_prob=erasing,
            re_mode="pixel",
            interpolation=preprocess.interpolation,
            mean=preprocess.mean,
            std=preprocess.std,
        )
        for step in self.transform.transforms:
            for operation in getattr(step, "ops", ()):
                # timm's strongest posterisation keeps no bit, which Pillow refuses.
                operation.magnitude_max = operation.magnitude_max or math.nextafter(10, 0)

    def __getitem__(self, drawn: tuple[int, int]) -> torch.Tensor:
        """Return a picture by its row and the seed of its augmentation: (3, H, W) float32."""
        row, seed = drawn
        pixels = read_image(self.paths[row])
        with seeded_libraries(seed):
            return self.transform(Image.fromarray(pixels.permute(1, 2, 0).numpy()))


class PlainImages(Dataset):
    """Pictures as the encoder's own preprocessing makes them, (3, H, W) uint8."""

    def __init__(self, paths: Sequence[Reference], preprocess: Preprocess) -> None:
        self.paths = paths
        self.preprocess = preprocess

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> torch.Tensor:
        return self.preprocess.resize(read_image(self.paths[row]))


def flips_and_turns(images: torch.Tensor, number: int) -> Iterator[torch.Tensor]:
    """Yield the first of: as it is, mirrored left-right, upside down, turned left, turned right.

    Parameters
    ----------
    images:
        (B, 3, H, H).
    number:
        From 1 to 5.
    """
    yield images
    views = (
        lambda: F.horizontal_flip(images),
        lambda: F.vertical_flip(images),
        lambda: images.rot90(1, (2, 3)),
        lambda: images.rot90(3, (2, 3)),
    )
    for view in views[: number - 1]:
        yield view()


def write_checkpoint(folder: Path | None, state: dict[str, Any]) -> None:
    """Write the state after an epoch in place of that of the one before; nowhere for None."""
    if folder is not None:
        with atomic_path(folder / _CHECKPOINT) as temporary:
            torch.save(state, temporary)


def read_checkpoint(folder: Path | None, device: torch.device) -> dict[str, Any] | None:
    """Read what :func:`write_checkpoint` wrote; None where there is nothing."""
    path = folder / _CHECKPOINT if folder is not None else None
    if path is None or not path.is_file():
        return None
    return torch.load(path, map_location=device, weights_only=True)
