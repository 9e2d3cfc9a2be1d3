"""A timm vision transformer that takes crops of several sizes, whole or partly hidden."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dermino.errors import UserError
from dermino.models.block import PretrainingBlock, scaled_weights_shared, take_tokens
from dermino.models.patch_selection import PatchSelection
from dermino.models.position import resize_position
from dermino.models.stochastic_depth import Paths

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
        projection = getattr(vit.patch_embed, "proj", None)
        if not isinstance(projection, nn.Conv2d) or projection.stride != projection.kernel_size:
            raise UserError(
                f"{type(vit.patch_embed).__name__} does not divide images into plain patches.",
                "Choose a vision transformer such as vit_base_patch14_dinov2.",
            )
        for block in vit.blocks:
            PretrainingBlock.adopt(block)
        self.vit: Any = vit
        self.checkpoint_activations = checkpoint_activations

    @property
    def embed_dim(self) -> int:
        """Width D of the tokens."""
        return int(self.vit.embed_dim)

    def passes_of_one_step(self) -> AbstractContextManager[None]:
        """Share, where that is possible, what several passes with the same weights would repeat.

        Their gradients have to be taken together.
        """
        blocks = self.vit.blocks
        if self.checkpoint_activations or not all(map(_is_unseen, blocks)):
            return nullcontext()
        return scaled_weights_shared(blocks)

    def forward(
        self,
        images: torch.Tensor,
        visible: torch.Tensor | None = None,
        paths: Paths | None = None,
        wanted: PatchSelection | None = None,
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
            The M patch tokens that are of use, of V or N an image; what is only needed for others
            is left out of the last block. None = all.

        Returns
        -------
        (B, D) class tokens and (B, V or N, D) patch tokens, or the (M, D) wanted ones.
        """
        tokens, height, width = self._patches(images)
        tokens = self._add_position(tokens, height, width)
        return self._transform(tokens, paths, visible, wanted)

    def _patches(self, images: torch.Tensor) -> tuple[torch.Tensor, int, int]:
        """Return the (B, N, D) embedded patches, row after row, and the grid's rows and columns.

        The convolution of timm's patch embedding, whose stride is its kernel, as one matrix
        product, which gives the tokens in the order they are needed in.
        """
        layer = self.vit.patch_embed.proj
        side_y, side_x = layer.kernel_size
        height, width = images.shape[-2] // side_y, images.shape[-1] // side_x
        pixels = images[..., : height * side_y, : width * side_x]
        pixels = pixels.unflatten(-2, (height, side_y)).unflatten(-1, (width, side_x))
        pixels = pixels.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)
        patches = F.linear(pixels, layer.weight.flatten(1), layer.bias)
        return self.vit.patch_embed.norm(patches), height, width

    def _transform(
        self,
        tokens: torch.Tensor,
        paths: Paths | None,
        visible: torch.Tensor | None,
        wanted: PatchSelection | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        prefix = self.vit.num_prefix_tokens
        if visible is not None:
            seen = take_tokens(tokens[:, prefix:], visible)
            tokens = torch.cat([tokens[:, :prefix], seen], dim=1)
        tokens = self.vit.norm_pre(tokens)
        images, length, _ = tokens.shape
        last = len(self.vit.blocks) - 1
        recompute = self.checkpoint_activations and torch.is_grad_enabled()
        in_place = not recompute and all(map(_is_unseen, self.vit.blocks))
        for number, block in enumerate(self.vit.blocks):
            taken = (*paths.rows[2 * number : 2 * number + 2], paths.scale) if paths else _ALL
            if number == last and wanted is not None:
                asked = (wanted.images, *wanted.queries(length - prefix, prefix))
                if len(wanted):
                    # Their number changes from step to step; a compiled block takes any.
                    for places in asked:
                        torch._dynamo.maybe_mark_dynamic(places, 0)
                taken = (*taken, *asked)
            if recompute:
                tokens = checkpoint(block, tokens, *taken, use_reentrant=False)
            elif in_place:
                follows = number + 1 < last or (number + 1 == last and wanted is None)
                tokens = block(tokens, *taken, owned=number > 0, owns_gradient=follows)
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
        # In mixed precision the sum, and so all that blocks add to it, has the weights' precision:
        # what a small layer scale adds would be lost in bf16.
        position = resize_position(
            vit.pos_embed, embedded, vit.patch_embed.grid_size, (height, width)
        )
        if vit.no_embed_class:
            return torch.cat([*prefix, tokens + position], dim=1)
        return torch.cat([*prefix, tokens], dim=1) + position


class MaskedVisionTransformer(CroppedVisionTransformer):
    """A backbone that shows a mask token in place of hidden patches (iBOT, DINOv2)."""

    def __init__(self, vit: VisionTransformer, checkpoint_activations: bool = False) -> None:
        super().__init__(vit, checkpoint_activations)
        # The weights may have come with one; else it starts at zero, as DINOv2's.
        stored = getattr(vit, "stored_mask_token", None)
        self.mask_token = nn.Parameter(
            torch.zeros(1, vit.embed_dim) if stored is None else stored.clone()
        )

    def forward(
        self,
        images: torch.Tensor,
        masks: torch.Tensor | None = None,
        paths: Paths | None = None,
        wanted: PatchSelection | None = None,
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
            The M patch tokens that are of use; what is only needed for others is left out of the
            last block. None = all.

        Returns
        -------
        (B, D) class tokens and (B, N, D) patch tokens, or the (M, D) wanted ones.
        """
        tokens, height, width = self._patches(images)
        if masks is not None:
            tokens = torch.where(masks.unsqueeze(-1), self.mask_token, tokens)
        tokens = self._add_position(tokens, height, width)
        return self._transform(tokens, paths, None, wanted)


def _is_unseen(block: nn.Module) -> bool:
    """Whether no hook, and no sharding (FSDP), sees what goes into a block or comes out of it."""
    hooks = (block._forward_pre_hooks, block._forward_hooks, block._backward_hooks)
    return type(block) is PretrainingBlock and not any(hooks)
