"""The regressor of CAE and PanDerm: latents of hidden patches from those of visible ones."""

from __future__ import annotations

from functools import partial

import torch
from timm.layers import LayerScale, Mlp, build_sincos2d_pos_embed
from torch import nn
from torch.nn import functional as F

from dermino.models.block import take_tokens
from dermino.models.scratch import init_linear_layers


class CrossAttentionBlock(nn.Module):
    """Queries look at visible latents and at each other, then pass through a perceptron.

    Positions are added to queries and keys, not to values.

    Parameters
    ----------
    dim, num_heads:
        Width and attention heads.
    layer_scale:
        Where the scales of the two branches start.
    """

    def __init__(self, dim: int, num_heads: int, layer_scale: float) -> None:
        super().__init__()
        norm_layer = partial(nn.LayerNorm, eps=1e-6)
        self.num_heads = num_heads
        self.query_norm, self.key_norm, self.value_norm = (norm_layer(dim) for _ in range(3))
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.project = nn.Linear(dim, dim)
        self.attention_scale = LayerScale(dim, layer_scale)
        self.norm = norm_layer(dim)
        self.mlp = Mlp(dim, 4 * dim)
        self.mlp_scale = LayerScale(dim, layer_scale)

    def forward(
        self,
        queries: torch.Tensor,
        latents: torch.Tensor,
        query_position: torch.Tensor,
        latent_position: torch.Tensor,
    ) -> torch.Tensor:
        """(B, M, D) queries and (B, V, D) latents, each with positions -> (B, M, D)."""
        context = torch.cat([latents, queries], dim=1)
        position = torch.cat([latent_position, query_position], dim=1)
        query = self._heads(self.query(self.query_norm(queries + query_position)))
        key = self._heads(self.key(self.key_norm(context + position)))
        value = self._heads(self.value(self.value_norm(context)))
        attended = F.scaled_dot_product_attention(query, key, value)
        attended = self.project(attended.transpose(1, 2).flatten(2))
        # The perceptron's residual starts from the normed sum, as in CAE.
        queries = self.norm(queries + self.attention_scale(attended))
        return queries + self.mlp_scale(self.mlp(queries))

    def _heads(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.unflatten(2, (self.num_heads, -1)).transpose(1, 2)


class LatentRegressor(nn.Module):
    """Predicts the latents of masked patches and maps all latents to the teacher's width.

    Parameters
    ----------
    embed_dim:
        Width D of the encoder.
    target_dim:
        Width C of the teacher's features.
    grid:
        Rows and columns of patches.
    depth, num_heads, layer_scale:
        Shape and start of the cross-attention blocks.
    """

    position: torch.Tensor

    def __init__(
        self,
        embed_dim: int,
        target_dim: int,
        grid: tuple[int, int],
        depth: int,
        num_heads: int,
        layer_scale: float,
    ) -> None:
        super().__init__()
        self.mask_query = nn.Parameter(torch.zeros(1, 1, embed_dim))
        position = build_sincos2d_pos_embed(list(grid), embed_dim)
        self.register_buffer("position", position.unsqueeze(0))
        self.blocks = nn.ModuleList(
            CrossAttentionBlock(embed_dim, num_heads, layer_scale) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(embed_dim, eps=1e-6)
        self.align = nn.Linear(embed_dim, target_dim)
        nn.init.trunc_normal_(self.mask_query, std=0.02)
        init_linear_layers(self)

    def forward(
        self,
        class_tokens: torch.Tensor,
        latents: torch.Tensor,
        visible: torch.Tensor,
        masked: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (B, 1 + V, C) aligned class and visible latents and (B, M, C) predicted ones.

        Parameters
        ----------
        class_tokens, latents:
            (B, D) and (B, V, D) of the encoder.
        visible, masked:
            (B, V) and (B, M) int64 places of the patches.
        """
        positions = self.position.expand(len(latents), -1, -1)
        latent_position = take_tokens(positions, visible)
        query_position = take_tokens(positions, masked)
        queries = self.mask_query.expand(len(latents), masked.shape[1], -1)
        for block in self.blocks:
            queries = block(queries, latents, query_position, latent_position)
        seen = torch.cat([class_tokens.unsqueeze(1), latents], dim=1)
        return self.align(self.norm(seen)), self.align(self.norm(queries))
