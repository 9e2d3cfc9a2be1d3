"""Learning-rate multipliers and weight decay of each parameter, as DINOv2 sets them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from dermino.pretrain.config import OptimizerConfig

# DINOv2 groups the blocks of large models; the second number is then the block's.
_BLOCK = re.compile(r"(?:^|\.)blocks\.(?:\d+\.)?(\d+)\.")
# Registers have timm's name or DINOv2's.
_FIRST_LAYER = (
    "pos_embed",
    "patch_embed",
    "mask_token",
    "cls_token",
    "reg_token",
    "register_tokens",
)
_NO_WEIGHT_DECAY = ("norm", "gamma")


@dataclass(frozen=True)
class Rule:
    """How one parameter is optimised."""

    lr_multiplier: float = 1.0
    weight_decay_multiplier: float = 1.0
    is_last_layer: bool = False


def layer_id(name: str, num_blocks: int) -> int:
    """Return a parameter's depth: embeddings 0, block i is i + 1, everything after n + 1."""
    if any(part in name for part in _FIRST_LAYER):
        return 0
    block = _BLOCK.search(name)
    return int(block.group(1)) + 1 if block else num_blocks + 1


def backbone_rule(
    name: str, num_blocks: int, layer_decay: float, patch_embed_lr_multiplier: float
) -> Rule:
    """Return the rule of a backbone parameter: layer-wise decay and a slower patch embedding."""
    rate = layer_decay ** (num_blocks + 1 - layer_id(name, num_blocks))
    if "patch_embed" in name:
        rate *= patch_embed_lr_multiplier
    return Rule(rate, _weight_decay_multiplier(name))


def head_rule(name: str) -> Rule:
    """Return the rule of a projection-head parameter."""
    return Rule(1.0, _weight_decay_multiplier(name), is_last_layer="last_layer" in name)


def head_rules(*heads: nn.Module) -> Iterator[tuple[nn.Parameter, Rule]]:
    """Yield the parameters of whole heads."""
    for head in heads:
        for name, parameter in head.named_parameters():
            yield parameter, head_rule(name)


def backbone_rules(
    backbone: nn.Module, num_blocks: int, optimizer: OptimizerConfig
) -> Iterator[tuple[nn.Parameter, Rule]]:
    """Yield the parameters of a backbone of ``num_blocks`` blocks."""
    decay, multiplier = optimizer.layer_decay, optimizer.patch_embed_lr_multiplier
    for name, parameter in backbone.named_parameters():
        yield parameter, backbone_rule(name, num_blocks, decay, multiplier)


def _weight_decay_multiplier(name: str) -> float:
    exempt = name.endswith(".bias") or any(part in name for part in _NO_WEIGHT_DECAY)
    return 0.0 if exempt else 1.0


def parameter_groups(
    rules: Iterator[tuple[nn.Parameter, Rule]],
) -> list[dict[str, object]]:
    """Fuse parameters that share a rule into one optimiser group each."""
    groups: dict[Rule, list[nn.Parameter]] = {}
    for parameter, rule in rules:
        if parameter.requires_grad:
            groups.setdefault(rule, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr_multiplier": rule.lr_multiplier,
            "weight_decay_multiplier": rule.weight_decay_multiplier,
            "is_last_layer": rule.is_last_layer,
        }
        for rule, parameters in groups.items()
    ]


def apply_schedule(
    optimizer: torch.optim.Optimizer, learning_rate: float, last_layer_lr: float, decay: float
) -> None:
    """Write the scheduled values into every group."""
    for group in optimizer.param_groups:
        rate = last_layer_lr if group["is_last_layer"] else learning_rate
        group["lr"] = rate * group["lr_multiplier"]
        group["weight_decay"] = decay * group["weight_decay_multiplier"]
