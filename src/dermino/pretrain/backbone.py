"""The vision transformer a run starts from."""

from __future__ import annotations

from pathlib import Path

import torch
from timm.models.vision_transformer import VisionTransformer

from dermino.errors import UserError
from dermino.models.encoder_file import EncoderFile
from dermino.models.huggingface import download
from dermino.models.load import create_backbone, load_encoder
from dermino.models.weights import load_into, read_state, weights_file
from dermino.pretrain.config import ModelConfig, ViewsConfig


def model_args(model: ModelConfig, views: ViewsConfig) -> dict[str, object]:
    """Return timm's arguments for the backbone of a recipe."""
    return {"img_size": views.global_size, **model.model_args}


def build_backbone(model: ModelConfig, views: ViewsConfig, seed: int) -> VisionTransformer:
    """Create the backbone and fill it with the weights the recipe names.

    Position embeddings are resized to the recipe's image size. A mask token that comes with the
    weights is kept as ``stored_mask_token``.

    Raises
    ------
    UserError
        If the architecture is unknown, crops do not divide into patches or weights do not fit.
    """
    torch.manual_seed(seed)
    backbone = create_backbone(model.architecture, **model_args(model, views))
    if not isinstance(backbone, VisionTransformer):
        raise UserError(
            f"'{model.architecture}' is not a vision transformer.",
            "Set model.architecture to one of timm's, such as vit_base_patch14_dinov2.",
        )
    if not len(backbone.blocks):
        raise UserError(
            f"model.model_args={model.model_args} leaves '{model.architecture}' without a block.",
            "Use --set model.model_args.depth=1 or more.",
        )
    patch_size = backbone.patch_embed.patch_size[0]
    for key in ("global_size", "local_size") if views.local_crops else ("global_size",):
        size = getattr(views, key)
        if size % patch_size:
            raise UserError(
                f"views.{key}={size} is not a multiple of the patch size {patch_size}.",
                f"Use {max(size // patch_size, 1) * patch_size}.",
            )
    if model.init:
        if model.init.startswith("hf:"):
            state = download(model.init.removeprefix("hf:"))
        elif Path(model.init).exists():
            state = read_state(model.init)
        else:
            state = load_encoder(model.init).backbone.state_dict()
        load_into(backbone, state, model.init)
        mask_token = state.get("mask_token")
        if mask_token is not None and mask_token.numel() == backbone.embed_dim:
            # No part of timm's model; the student that hides patches goes on from it.
            backbone.stored_mask_token = mask_token.float().reshape(1, -1)
    return backbone


def seen_before(model: ModelConfig) -> dict[str, dict[str, int]] | None:
    """Return what the starting weights were pretrained on; None = unknown, {} = nothing."""
    if model.init is None:
        return {}
    if not Path(model.init).exists():
        return None
    path = weights_file(model.init)
    described = EncoderFile.read(path) if path.suffix == ".safetensors" else None
    return described.seen if described is not None else None
