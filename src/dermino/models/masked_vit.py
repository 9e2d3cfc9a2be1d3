"""A timm vision transformer that takes crops of several sizes, whole or partly hidden."""

from __future__ import annotations

from typing import Any

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dermino.errors import UserError
from dermino.models.stochastic_depth import DroppableBlock, Paths

# Added to the grid before dividing, as DINOv2 does, so that rounding never loses a row.
_POSITION_OFFSET = 0.1
# All images take both branches of a block.
_ALL: tuple[Any, ...] = (None, None, 1.0)


class CroppedVisionTransformer(nn.Module):
    """The backbone during pretraining; ``vit`` alone is what gets exported.

    Parameters
    ----------
    vit:
        timm vision transformer with a class token.
    checkpoint_activations:
        Keep only what enters each block and compute its inside again in the backward pass: a
        quarter more time, a fraction of the memory, the same gradients.
    """

    def __init__(self, vit: VisionTransformer, checkpoint_activations: bool = False) -> None:
        super().__init__()
        if not isinstance(vit, VisionTransformer) or vit.cls_token is None:
            raise UserError(
                f"{type(vit).__name__} cannot be pretrained with masking.",
                "Choose a vision transformer with a class token, such as vit_base_patch14_dinov2.",
            )
        for block in vit.blocks:
            if type(block) not in (Block, DroppableBlock):
                raise UserError(
                    f"Blocks of type {type(block).__name__} cannot be pretrained.",
                    "Choose a transformer of plain pre-norm blocks, such as "
                    "vit_base_patch14_dinov2.",
                )
            block.__class__ = DroppableBlock
        self.vit: Any = vit
        self.checkpoint_activations = checkpoint_activations

    @property
    def embed_dim(self) -> int:
        """Width D of the tokens."""
        return int(self.vit.embed_dim)

    def forward(
        self,
        images: torch.Tensor,
        visible: torch.Tensor | None = None,
        paths: Paths | None = None,
        wanted: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the class token and the patch tokens after the last norm.

        Parameters
        ----------
        images:
            (B, 3, H, W) normalised; H and W multiples of the patch size.
        visible:
            (B, V) int64 places of the patches to look at; None = all of them.
        paths:
            Which images take which branches; None = all take all.
        wanted:
            (M,) int64 places, in the flattened (B, V or N), of the patch tokens that are of use;
            what is only needed for others is left out of the last block. None = all of them.

        Returns
        -------
        (B, D) class tokens and (B, V or N, D) patch tokens, or the (M, D) wanted ones.
        """
        tokens, height, width = self._patches(images)
        return self._transform(self._add_position(tokens, height, width), paths, visible, wanted)

    def _patches(self, images: torch.Tensor) -> tuple[torch.Tensor, int, int]:
        patches = self.vit.patch_embed.proj(images)
        height, width = patches.shape[-2:]
        return self.vit.patch_embed.norm(patches.flatten(2).transpose(1, 2)), height, width

    def _transform(
        self,
        tokens: torch.Tensor,
        paths: Paths | None,
        visible: torch.Tensor | None = None,
        wanted: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        prefix = self.vit.num_prefix_tokens
        if visible is not None:
            seen = take_patches(tokens[:, prefix:], visible)
            tokens = torch.cat([tokens[:, :prefix], seen], dim=1)
        tokens = self.vit.norm_pre(tokens)
        images, length, _ = tokens.shape
        last = len(self.vit.blocks) - 1
        recompute = self.checkpoint_activations and torch.is_grad_enabled()
        for number, block in enumerate(self.vit.blocks):
            taken = (*paths.rows[2 * number : 2 * number + 2], paths.scale) if paths else _ALL
            if number == last and wanted is not None:
                taken = (*taken, _places(wanted, images, length, prefix))
            if recompute:
                tokens = checkpoint(block, tokens, *taken, use_reentrant=False)
            else:
                tokens = block(tokens, *taken)
        tokens = self.vit.norm(tokens)
        if wanted is not None:
            return tokens[:images], tokens[images:]
        return tokens[:, 0], tokens[:, prefix:]

    def _add_position(self, tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Prepend class and register tokens and add the (resized) position embedding."""
        vit = self.vit
        prefix = [vit.cls_token.expand(len(tokens), -1, -1)]
        if vit.reg_token is not None:
            prefix.append(vit.reg_token.expand(len(tokens), -1, -1))
        embedded = 0 if vit.no_embed_class else vit.num_prefix_tokens
        position = self._resized_position(embedded, height, width).to(tokens.dtype)
        if vit.no_embed_class:
            return torch.cat([*prefix, tokens + position], dim=1)
        return torch.cat([*prefix, tokens], dim=1) + position

    def _resized_position(self, embedded: int, height: int, width: int) -> torch.Tensor:
        position = self.vit.pos_embed
        rows, columns = self.vit.patch_embed.grid_size
        if (rows, columns) == (height, width):
            return position
        grid = position[:, embedded:].unflatten(1, (rows, columns)).permute(0, 3, 1, 2)
        scale = ((height + _POSITION_OFFSET) / rows, (width + _POSITION_OFFSET) / columns)
        grid = F.interpolate(grid.float(), scale_factor=scale, mode="bicubic", antialias=False)
        return torch.cat([position[:, :embedded], grid.flatten(2).transpose(1, 2)], dim=1)


class MaskedVisionTransformer(CroppedVisionTransformer):
    """A backbone that shows a mask token in place of hidden patches (iBOT, DINOv2)."""

    def __init__(self, vit: VisionTransformer, checkpoint_activations: bool = False) -> None:
        super().__init__(vit, checkpoint_activations)
        self.mask_token = nn.Parameter(torch.zeros(1, vit.embed_dim))

    def forward(
        self,
        images: torch.Tensor,
        masks: torch.Tensor | None = None,
        paths: Paths | None = None,
        wanted: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the class token and the patch tokens after the last norm.

        Parameters
        ----------
        images:
            (B, 3, H, W) normalised; H and W multiples of the patch size.
        masks:
            (B, N) bool; True patches are replaced by the mask token.
        paths:
            Which images take which branches; None = all take all.
        wanted:
            (M,) int64 places, in the flattened (B, N), of the patch tokens that are of use; what
            is only needed for others is left out of the last block. None = all of them.

        Returns
        -------
        (B, D) class tokens and (B, N, D) patch tokens, or the (M, D) wanted ones.
        """
        tokens, height, width = self._patches(images)
        if masks is not None:
            tokens = torch.where(masks.unsqueeze(-1), self.mask_token.to(tokens.dtype), tokens)
        return self._transform(self._add_position(tokens, height, width), paths, wanted=wanted)


def take_patches(patches: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the patches at the given places: (B, N, D) and (B, M) int64 -> (B, M, D)."""
    return torch.take_along_dim(patches, places.unsqueeze(-1), dim=1)


def _places(wanted: torch.Tensor, images: int, length: int, prefix: int) -> torch.Tensor:
    """Return where class tokens and wanted patches lie in the flattened (images, length)."""
    first = torch.arange(0, images * length, length, device=wanted.device)
    patches = length - prefix
    image = wanted.div(patches, rounding_mode="floor")
    return torch.cat([first, wanted + (image + 1) * prefix])
