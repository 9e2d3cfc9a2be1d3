"""What only a GPU can show; skipped where there is none."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from dermino.config import load_config
from dermino.pretrain.backbone import build_backbone
from dermino.pretrain.batch import Batch
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.methods.dermino import DerminoMethod
from dermino.pretrain.objectives.sinkhorn import sinkhorn_knopp
from dermino.pretrain.pretrain import pretrain
from dermino.pretrain.schedules import Length, Schedules
from tiny_run import TINY, write_archive

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("compiled", [False, True])
def test_a_run_finds_its_batch_and_ends_with_finite_losses(tmp_path: Path, compiled: bool) -> None:
    changes = ["batch_size_per_device=auto", "model.drop_path=0.3", "steps=3"]
    overrides = [*TINY, *changes, f"compile={str(compiled).lower()}"]
    pretrain([write_archive(tmp_path)], tmp_path / "run", None, "demo", overrides)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert all(math.isfinite(record["total"]) for record in records)
    config = load_config(PretrainConfig, tmp_path / "run" / "config.yaml")
    assert isinstance(config.batch_size_per_device, int)


def test_the_losses_are_those_of_the_cpu() -> None:
    config = load_config(PretrainConfig, "demo", TINY)
    backbone = build_backbone(config.model, config.views, seed=0)
    torch.manual_seed(0)
    method = DerminoMethod(config, backbone, torch.randn(5, backbone.embed_dim)).eval()
    values = Schedules(config, Length(10, 1, 10), 4).at(3)
    batch = Batch.blank(method.views(config), 16, 4).augmented()
    batch.global_crops = torch.randn_like(batch.global_crops)
    batch.local_crops = torch.randn_like(batch.local_crops)
    batch.targets = torch.tensor([[1, 0, 0, 0, 0]] * 4, dtype=torch.uint8)
    batch.known = torch.ones_like(batch.targets)
    expected = method(batch, values)
    device = torch.device("cuda")
    found = method.to(device)(batch.to(device), values)
    for name, value in expected.items():
        torch.testing.assert_close(found[name].cpu(), value, rtol=1e-4, atol=1e-5)


def test_sinkhorn_knopp_is_that_of_the_cpu() -> None:
    logits = torch.randn(64, 4096)
    ours = sinkhorn_knopp(logits.cuda(), 0.04).cpu()
    torch.testing.assert_close(ours, sinkhorn_knopp(logits, 0.04), rtol=1e-4, atol=1e-6)
