"""Hugging Face's ``Dinov2Model`` in the names of DINOv2's own files."""

from __future__ import annotations

import re
from typing import Any

import torch

from dermino.errors import UserError
from dermino.models.transformers_tower import load_transformers

State = dict[str, torch.Tensor]

MARKER = "embeddings.patch_embeddings.projection.weight"
_RENAMED = {
    "embeddings.cls_token": "cls_token",
    "embeddings.mask_token": "mask_token",
    "embeddings.register_tokens": "register_tokens",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
    "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
    "layernorm.weight": "norm.weight",
    "layernorm.bias": "norm.bias",
}
# Files on the hub have the longer names, current transformers the shorter ones.
_PARTS = {
    "attention.attention.query": "attention.q_proj",
    "attention.attention.key": "attention.k_proj",
    "attention.attention.value": "attention.v_proj",
    "attention.output.dense": "attn.proj",
    "attention.o_proj": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
    "mlp.weights_in": "mlp.w12",
    "mlp.weights_out": "mlp.w3",
    "mlp.down_proj": "mlp.w3",
}
# What DINOv2 keeps in one matrix and Hugging Face in several, in DINOv2's order.
_FUSED = {
    "attn.qkv": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    "mlp.w12": ("mlp.gate_proj", "mlp.up_proj"),
}


def from_huggingface(state: State) -> State:
    """Rename the weights of a ``Dinov2Model`` (with or without registers), fusing q, k and v.

    Names that are not DINOv2's pass through, so that loading them lists them as unexpected.
    """
    state = {key.removeprefix("dinov2."): value for key, value in state.items()}
    renamed: State = {}
    for key, value in state.items():
        key = _RENAMED.get(key, key)
        for old, new in _PARTS.items():
            key = key.replace(f".{old}", f".{new}")
        renamed[re.sub(r"^encoder\.layer\.", "blocks.", key)] = value
    for whole, parts in _FUSED.items():
        first = [key for key in renamed if f".{parts[0]}." in key]
        for key in first:
            pieces = [renamed.pop(key.replace(parts[0], part)) for part in parts]
            renamed[key.replace(parts[0], whole)] = torch.cat(pieces)
    return renamed


def is_dinov2(model: Any) -> bool:
    """Whether a transformers model is DINOv2, with or without registers."""
    return model.config.model_type in {"dinov2", "dinov2_with_registers"}


def download(model_id: str) -> State:
    """Fetch a DINOv2 model from the Hugging Face hub, or its cache, in DINOv2's names.

    Raises
    ------
    UserError
        If transformers is missing, the model cannot be fetched, or it is no DINOv2 model.
    """
    model, _ = load_transformers(model_id)
    if not is_dinov2(model):
        raise UserError(
            f"'hf:{model_id}' is a {type(model).__name__}, not a DINOv2 model.",
            "A run can start from a DINOv2 model, a timm model or a weights file.",
        )
    return from_huggingface(model.state_dict())
