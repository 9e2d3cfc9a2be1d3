"""How MAE and MoCo v3 begin a vision transformer that has no weights yet."""

from __future__ import annotations

import math

import torch
from timm.layers import build_sincos2d_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import nn


@torch.no_grad()
def start_from_scratch(vit: VisionTransformer, separate_qkv: bool = False) -> None:
    """Give a transformer fixed sine-cosine positions and Xavier-uniform layers, in place.

    Positions stay out of training (``requires_grad`` is off) but are exported as ``pos_embed``.

    Parameters
    ----------
    vit:
        The untrained backbone.
    separate_qkv:
        Start query, key and value as three layers instead of one wide one (MoCo v3).
    """
    grid = build_sincos2d_pos_embed(list(vit.patch_embed.grid_size), vit.embed_dim)
    vit.pos_embed.zero_()
    vit.pos_embed[0, -len(grid) :] = grid
    vit.pos_embed.requires_grad_(False)
    init_linear_layers(vit, separate_qkv)
    projection = vit.patch_embed.proj
    fan = projection.weight[0].numel() + len(projection.weight)
    nn.init.uniform_(projection.weight, -math.sqrt(6 / fan), math.sqrt(6 / fan))
    nn.init.zeros_(projection.bias)
    nn.init.normal_(vit.cls_token, std=1e-6 if separate_qkv else 0.02)


@torch.no_grad()
def init_linear_layers(network: nn.Module, separate_qkv: bool = False) -> None:
    """Start every linear layer with Xavier-uniform weights and no bias, in place.

    Parameters
    ----------
    network:
        Holds the layers.
    separate_qkv:
        Start query, key and value as three layers instead of one wide one.
    """
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            split = separate_qkv and name.endswith("qkv")
            for part in module.weight.chunk(3) if split else (module.weight,):
                nn.init.xavier_uniform_(part)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
