"""A teacher that is not trained: what an encoder from elsewhere sees in each patch."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F

from dermino.errors import UserError
from dermino.models.load import load_encoder


class FrozenTeacher(nn.Module):
    """The token features of an encoder, at its own size and normalisation.

    Parameters
    ----------
    spec:
        The encoder's name.
    image_size:
        Side of what it is shown, pixels.
    projection:
        Send the features through the encoder's own last layer.
    grid:
        Rows and columns of the student's patches.

    Raises
    ------
    UserError
        If the encoder cannot be had, has no class token, or sees another grid of patches.
    """

    def __init__(self, spec: str, image_size: int, projection: bool, grid: tuple[int, int]) -> None:
        super().__init__()
        # Untrained encoders fix torch's seed; nothing that is built later may depend on that.
        with torch.random.fork_rng(devices=[]):
            self.encoder = load_encoder(spec, image_size, last_layer=projection)
        self.image_size = image_size
        tower = self.encoder.backbone
        if not isinstance(tower, VisionTransformer) or tower.cls_token is None:
            raise UserError(
                f"The teacher '{spec}' is no vision transformer with a class token.",
                "Set panderm.teacher to a CLIP vision tower of timm.",
            )
        seen = tuple(tower.patch_embed.grid_size)
        if seen != tuple(grid):
            raise UserError(
                f"The teacher's patches are {seen[0]} x {seen[1]}, the student's "
                f"{grid[0]} x {grid[1]}.",
                f"Use --set panderm.teacher_size={grid[0] * tower.patch_embed.patch_size[0]}.",
            )

    @property
    def target_dim(self) -> int:
        """Width C of the features."""
        tower = self.encoder.backbone
        return int(getattr(tower.head, "out_features", tower.num_features))

    def train(self, mode: bool = True) -> FrozenTeacher:
        """Stay in evaluation mode."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) float32 in [0, 1] -> (B, 1 + N, C), the class token first."""
        size = [self.image_size, self.image_size]
        resized = F.interpolate(images, size, mode="bicubic", antialias=True).clamp(0, 1)
        tower = self.encoder.backbone
        tokens = tower.forward_features(self.encoder.preprocess.normalise(resized))
        patches = tokens[:, tower.num_prefix_tokens :]
        return tower.head(torch.cat([tokens[:, :1], patches], dim=1))
