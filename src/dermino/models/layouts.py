"""The names weights have in their publishers' files, turned into timm's.

A layout is recognised by its keys and by the model that asks for it. What a layout does not know
passes through, so that loading lists it as unexpected.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import torch
from timm.layers import build_sincos2d_pos_embed
from timm.models.davit import DaVit
from timm.models.efficientnet import EfficientNet
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch import nn
from torch.nn import functional as F

from dermino.errors import UserError
from dermino.models.huggingface import State
from dermino.models.position import resize_position


def to_timm(state: State, model: nn.Module) -> State:
    """Rename weights for a timm model and resize what depends on the image size.

    Parameters
    ----------
    state:
        A flat state dict in any layout that this file or timm knows.
    model:
        The timm model it is meant for.
    """
    if isinstance(model, VisionTransformer):
        state = _from_dinov2(_from_panderm(state, model), model)
    elif isinstance(model, VisionTransformerSAM):
        state = _from_sam(state, model)
    elif isinstance(model, DaVit):
        state = _from_medimageinsight(state)
    elif isinstance(model, Eva):
        state = _from_dinov3(state, model)
    elif isinstance(model, EfficientNet):
        state = _in_order(state, model)
    # timm knows the files of the models it publishes: OpenAI, open_clip, DINOv2, DINOv3, Florence.
    own: Any = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    return own(dict(state), model) if own else dict(state)


def _from_panderm(state: State, model: VisionTransformer) -> State:
    """PanDerm: CAE v2 with q and v biases only, LayerScale, and sine-cosine positions.

    Large keeps the encoder beside decoder and teacher, under ``encoder.``; Base holds it alone.
    """
    prefix = "encoder."
    if f"{prefix}blocks.0.attn.q_bias" in state:
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    if "blocks.0.attn.q_bias" not in state:
        return state
    renamed: State = {}
    for key, value in state.items():
        if key.endswith(".q_bias"):
            value_bias = state.get(key.replace("q_bias", "v_bias"))
            if value_bias is not None:
                parts = [value, torch.zeros_like(value), value_bias]
                renamed[key.replace("q_bias", "qkv.bias")] = torch.cat(parts)
        elif not key.endswith(".v_bias"):
            renamed[key.replace("gamma_1", "ls1.gamma").replace("gamma_2", "ls2.gamma")] = value
    if "pos_embed" not in renamed:
        # Fixed, so that a file may lack it. The quarters are sines and cosines of the slow
        # coordinate, then of the fast one, which is timm's order with this switch only.
        grid = build_sincos2d_pos_embed([14, 14], model.embed_dim, interleave_sin_cos=True)
        renamed["pos_embed"] = F.pad(grid, (0, 0, 1, 0)).unsqueeze(0)
    return renamed


def _from_dinov2(state: State, model: Any) -> State:
    """DINOv2: positions of another image size as its own code resizes them, timm does otherwise.

    Models with registers are published for timm's way, with antialiasing.
    """
    position = state.get("pos_embed")
    architecture = str(model.pretrained_cfg.get("architecture"))
    if position is None or "dinov2" not in architecture or model.reg_token is not None:
        return state
    side = math.isqrt(position.shape[1] - 1)
    if side * side != position.shape[1] - 1:
        return state
    resized = resize_position(position, 1, (side, side), model.patch_embed.grid_size)
    return {**state, "pos_embed": resized}


def _from_sam(state: State, model: VisionTransformerSAM) -> State:
    """SAM's image encoder (LVM-Med): no class token, relative positions, a neck that is unused."""
    prefix = "image_encoder."
    if any(key.startswith(prefix) for key in state):
        state = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    expected = model.state_dict()
    renamed: State = {}
    for key, value in state.items():
        if key.startswith("neck.") and not any(name.startswith("neck.") for name in expected):
            continue
        key = key.replace(".mlp.lin", ".mlp.fc")
        if ".rel_pos_" in key and key in expected and len(value) != len(expected[key]):
            resized = F.interpolate(value.T.unsqueeze(0), len(expected[key]), mode="linear")
            value = resized[0].T
        renamed[key] = value
    return renamed


def _from_medimageinsight(state: State) -> State:
    """MedImageInsight: the image tower of UniCL, which is Florence's DaViT with a last norm."""
    marker = "convs.0.proj.weight"
    prefix = next((name for name in ("image_encoder.", "visual.") if name + marker in state), None)
    if prefix is None:
        return state
    # Only what lies under Florence's prefix is renamed and kept by timm.
    renamed = {
        f"vision_tower.{key.removeprefix(prefix).replace('norms.', 'head.norm.')}": value
        for key, value in state.items()
        if key.startswith(prefix)
    }
    projection = state.get("image_projection", state.get("vision_projection"))
    if projection is not None:
        renamed["vision_tower.head.fc.weight"] = projection.T
        renamed["vision_tower.head.fc.bias"] = torch.zeros(projection.shape[1])
    return renamed


def _from_dinov3(state: State, model: Eva) -> State:
    """DINOv3: leave out the biases of query, key and value where they and the model have none."""
    if "blocks.0.attn.q_bias" in model.state_dict():
        return state
    biases = {key for key in state if key.endswith("attn.qkv.bias")}
    # The publisher marks the key's bias, which is masked out, as not a number.
    lost = sorted(key for key in biases if torch.nan_to_num(state[key]).any())
    if lost:
        raise UserError(
            f"The weights have {len(lost)} biases that this model lacks, such as {lost[0]}.",
            "Choose the architecture of the same name with _qkvb.",
        )
    return {key: value for key, value in state.items() if key not in biases}


def _in_order(state: State, model: EfficientNet) -> State:
    """MobileNet and EfficientNet files of torchvision and others, which have timm's order.

    The layers are the same and come in the order they are applied in; only their names differ.
    Every name must agree in its last part (weight, bias, running_mean, ...) and in its shape.
    """
    counter = "num_batches_tracked"
    expected = {k: v for k, v in model.state_dict().items() if not k.endswith(counter)}
    given = {
        key: value
        for key, value in state.items()
        if not key.endswith(counter) and not key.startswith(("classifier.", "_fc."))
    }
    if given.keys() & expected.keys() or len(given) != len(expected):
        return state
    pairs = list(zip(given.items(), expected.items(), strict=True))
    alike = all(
        key.rpartition(".")[2] == name.rpartition(".")[2] and value.shape == slot.shape
        for (key, value), (name, slot) in pairs
    )
    return {name: value for (_, value), (name, _) in pairs} if alike else state
