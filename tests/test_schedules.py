"""Schedules and parameter groups against DINOv2's rules."""

import numpy as np
import pytest
import torch

from dermino.config import load_config
from dermino.pretrain.backbone import build_backbone
from dermino.pretrain.config import ModelConfig, PretrainConfig, ViewsConfig
from dermino.pretrain.methods.dermino import DerminoMethod
from dermino.pretrain.parameter_groups import backbone_rule, layer_id
from dermino.pretrain.schedules import CosineSchedule, Length, Schedules, scaled_lr


def test_cosine_schedule_is_warm_up_then_half_a_cosine() -> None:
    base, final, total, warmup = 0.3, 0.01, 50, 8
    steps = np.arange(total - warmup)
    expected = np.concatenate(
        [
            np.linspace(0, base, warmup),
            final + 0.5 * (base - final) * (1 + np.cos(np.pi * steps / len(steps))),
        ]
    )
    schedule = CosineSchedule(base, final, total, warmup)
    np.testing.assert_allclose([schedule(i) for i in range(total)], expected, rtol=1e-12)
    assert schedule(total) == schedule(total + 100) == final


def test_the_papers_run_is_40000_steps_with_its_learning_rate() -> None:
    config = load_config(PretrainConfig, "dermino-vitb14")
    length = Length.of(config, 432_776, 2048)
    assert (length.steps, round(length.true_epochs)) == (40_000, 189)
    assert scaled_lr(config, 2048) == pytest.approx(2.828e-3, rel=1e-3)
    schedules = Schedules(config, length, 2048)
    assert schedules.at(399).last_layer_lr == 0.0
    assert schedules.at(400).last_layer_lr == schedules.at(400).learning_rate > 0
    assert schedules.at(3999).learning_rate == pytest.approx(scaled_lr(config, 2048))
    assert schedules.at(0).teacher_temp == 0.04
    assert schedules.at(12_000).teacher_temp == 0.07
    assert schedules.at(0).momentum == 0.992
    assert schedules.at(40_000).weight_decay == 0.2
    assert config.model.drop_path == PretrainConfig().model.drop_path == 0.4  # run.sh


def test_steps_stretch_every_schedule() -> None:
    config = load_config(PretrainConfig, "dermino-vitb14", ["steps=200"])
    length = Length.of(config, 1000, 10)
    assert (length.steps, length.epoch_length, length.true_epochs) == (200, 2.0, 2.0)
    assert length.in_steps(config.optimizer.warmup_epochs) == 20


def test_layers_weight_decay_and_patch_embedding_follow_dinov2() -> None:
    assert layer_id("pos_embed", 12) == layer_id("vit.patch_embed.proj.weight", 12) == 0
    assert layer_id("vit.reg_token", 12) == layer_id("register_tokens", 12) == 0
    assert layer_id("vit.blocks.3.attn.qkv.weight", 12) == 4
    assert layer_id("blocks.1.5.attn.qkv.weight", 12) == 6  # Grouped, as DINOv2's large models.
    assert layer_id("vit.norm.weight", 12) == 13
    rule = backbone_rule("vit.patch_embed.proj.weight", 12, 0.9, 0.2)
    assert rule.lr_multiplier == pytest.approx(0.2 * 0.9**13)
    exempt = ["vit.blocks.0.ls1.gamma", "vit.norm.weight", "vit.blocks.0.attn.qkv.bias"]
    assert [backbone_rule(name, 12, 1.0, 0.2).weight_decay_multiplier for name in exempt] == [0] * 3
    kept = ["vit.pos_embed", "vit.cls_token", "mask_token"]
    assert [backbone_rule(name, 12, 1.0, 0.2).weight_decay_multiplier for name in kept] == [1] * 3


def test_every_student_parameter_is_in_one_group_and_the_teacher_in_none() -> None:
    config = load_config(PretrainConfig, "demo")
    backbone = build_backbone(config.model, config.views, seed=0)
    method = DerminoMethod(config, backbone, torch.randn(5, backbone.embed_dim))
    grouped = [id(parameter) for parameter, _ in method.rules()]
    trained = {id(p) for p in [*method.student.parameters(), *method.prototypes.parameters()]}
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == trained
    assert not any(p.requires_grad for p in method.teacher.parameters())


def test_vit_base_has_the_papers_number_of_parameters() -> None:
    config = PretrainConfig()
    backbone = build_backbone(
        ModelConfig(architecture="vit_base_patch14_dinov2"), ViewsConfig(), seed=0
    )
    method = DerminoMethod(config, backbone, None)
    assert sum(p.numel() for p in method.student.backbone.parameters()) == 85_725_696
    assert sum(p.numel() for p in method.student.image_head.parameters()) == 23_138_560
