"""MAE's decoder: from what is visible to the pixels of what is not."""

from __future__ import annotations

from functools import partial

import torch
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import nn

from dermino.models.block import take_tokens
from dermino.models.scratch import init_linear_layers


class PixelDecoder(nn.Module):
    """A light transformer over visible latents and mask tokens (He et al. 2022, section 3).

    Parameters
    ----------
    embed_dim:
        Width D of the encoder.
    grid:
        Rows and columns of patches.
    patch_size:
        Side P of a patch, pixels.
    dim, depth, num_heads:
        Shape of the decoder.
    """

    position: torch.Tensor

    def __init__(
        self,
        embed_dim: int,
        grid: tuple[int, int],
        patch_size: int,
        dim: int = 512,
        depth: int = 8,
        num_heads: int = 16,
    ) -> None:
        super().__init__()
        norm_layer = partial(nn.LayerNorm, eps=1e-6)
        self.embed = nn.Linear(embed_dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_buffer("position", build_sincos2d_pos_embed(list(grid), dim).unsqueeze(0))
        self.blocks = nn.ModuleList(
            Block(dim, num_heads, qkv_bias=True, norm_layer=norm_layer) for _ in range(depth)
        )
        self.norm = norm_layer(dim)
        self.predict = nn.Linear(dim, 3 * patch_size**2)
        nn.init.normal_(self.mask_token, std=0.02)
        init_linear_layers(self)

    def forward(
        self,
        class_tokens: torch.Tensor,
        latents: torch.Tensor,
        visible: torch.Tensor,
        masked: torch.Tensor,
    ) -> torch.Tensor:
        """Return the (B, M, 3 P P) pixels of the masked patches.

        Parameters
        ----------
        class_tokens, latents:
            (B, D) and (B, V, D) of the encoder.
        visible, masked:
            (B, V) and (B, M) int64 places of the patches.
        """
        positions = self.position.expand(len(latents), -1, -1)
        prefix = self.embed(class_tokens).unsqueeze(1)
        seen = self.embed(latents) + take_tokens(positions, visible)
        hidden = self.mask_token + take_tokens(positions, masked)
        # Attention does not see the order: hidden patches simply come last.
        tokens = torch.cat([prefix, seen, hidden.to(seen.dtype)], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.predict(self.norm(tokens[:, -masked.shape[1] :]))
