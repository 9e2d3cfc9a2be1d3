"""How a run is carried out: accumulation, recomputation, stochastic depth, size of the batch."""

from __future__ import annotations

import copy
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import Block
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from dermino.config import load_config
from dermino.data.manifest import Manifest
from dermino.errors import UserError
from dermino.models.masked_vit import MaskedVisionTransformer
from dermino.models.stochastic_depth import Paths
from dermino.pretrain import batch_size
from dermino.pretrain.allocator import freed_memory_kept
from dermino.pretrain.backbone import build_backbone
from dermino.pretrain.batch import Batch, Collate
from dermino.pretrain.batch_size import is_out_of_memory, largest_fitting, take_blank_steps
from dermino.pretrain.config import ModelConfig, PretrainConfig, ViewsConfig
from dermino.pretrain.dataset import PretrainDataset
from dermino.pretrain.fabric import Fabric
from dermino.pretrain.method import METHODS, Method
from dermino.pretrain.objectives.knowledge import knowledge_loss
from dermino.pretrain.pretrain import pretrain
from dermino.pretrain.sharding import shard, whole
from dermino.pretrain.stochastic_depth import StochasticDepth
from tiny_run import TINY, small_vit, write_archive

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive"))


def train(data: Path, run: Path, *overrides: str, resume: bool = False) -> Path:
    return pretrain([data], run, None, "demo", [*TINY, *overrides], resume=resume)


def losses(run: Path) -> list[float]:
    return [json.loads(line)["total"] for line in (run / "metrics.jsonl").open()]


def assert_same_encoder(run: Path, other: Path, tolerance: float = 0.0) -> None:
    ours, theirs = (load_file(path / "encoder.safetensors") for path in (run, other))
    for key, value in theirs.items():
        torch.testing.assert_close(ours[key], value, atol=tolerance, rtol=0, msg=key)


def test_two_batches_of_a_step_teach_what_one_of_both_does(data: Path, tmp_path: Path) -> None:
    # MAE's loss compares no images, so that accumulating changes nothing but rounding.
    mae = ["method=mae", "mae={decoder_dim: 32, decoder_depth: 1, decoder_heads: 2}", "steps=4"]
    train(data, tmp_path / "one", *mae)
    halves = ["batch_size_per_device=4", "accumulate_grad_batches=2"]
    train(data, tmp_path / "two", *mae, *halves)
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-5)
    assert_same_encoder(tmp_path / "two", tmp_path / "one", tolerance=1e-5)
    plans = [json.loads((tmp_path / run / "plan.json").read_text()) for run in ("one", "two")]
    assert [plan["batch_size"] for plan in plans] == [8, 8]
    assert plans[0]["peak_lr"] == plans[1]["peak_lr"]


def test_every_labelled_crop_of_an_accumulated_step_counts_alike() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(8, 5, generator=generator)
    targets = torch.randint(0, 2, (8, 5), generator=generator)
    known = torch.zeros(8, 5)
    known[[0, 1, 2, 5]] = 1
    whole = knowledge_loss(logits, targets, known)
    labelled = (known.sum(dim=1) > 0).sum() / 2
    parts = [
        knowledge_loss(*(x[half] for x in (logits, targets, known)), labelled=labelled)
        for half in (slice(0, 4), slice(4, 8))
    ]
    torch.testing.assert_close(torch.stack(parts).mean(), whole)


def test_an_accumulated_run_resumes_exactly(data: Path, tmp_path: Path) -> None:
    overrides = ["accumulate_grad_batches=3", "checkpoint_every=2", "model.drop_path=0.3"]
    train(data, tmp_path / "whole", *overrides, "steps=3")
    train(data, tmp_path / "resumed", *overrides, "steps=3")
    (tmp_path / "resumed" / "checkpoints" / "step_00000003.pt").unlink()
    train(data, tmp_path / "resumed", *overrides, "steps=3", resume=True)
    assert_same_encoder(tmp_path / "resumed", tmp_path / "whole")


def taken(paths: Paths | None, rows: int) -> np.ndarray:
    """Return (branches, rows) whether a branch is taken."""
    assert paths is not None
    flags = np.zeros((len(paths.rows), rows), dtype=bool)
    for branch, chosen in zip(flags, paths.rows, strict=True):
        branch[chosen.numpy()] = True
    return flags


@pytest.mark.parametrize(("rate", "batch"), [(0.05, 24), (0.3, 24), (0.3, 64), (0.8, 3)])
def test_paths_are_dropped_at_the_rate_and_independently(rate: float, batch: int) -> None:
    depth = StochasticDepth(rate, num_blocks=2, seed=0)
    draws = [depth.draw(n, batch, range(batch), (2, 3), CPU) for n in range(400)]
    flags = np.stack([taken(paths[1], 3 * batch) for paths in draws]).astype(float)
    scale = draws[0][1].scale  # type: ignore[union-attr]
    np.testing.assert_allclose(flags.mean() * scale, 1, atol=0.01)
    kept = flags.sum(axis=2)
    if rate > 0.1:
        assert np.ptp(kept) == 0
        assert kept.flat[0] == max(int(3 * batch * (1 - rate)), 1)
    else:
        np.testing.assert_allclose(kept.var(), 3 * batch * rate * (1 - rate), rtol=0.1)
    # Neither crops of an image nor branches of a block share their fate, but for what follows
    # from an exact share of so many crops.
    first, second = flags[:, :, :batch], flags[:, :, batch : 2 * batch]
    shared = -1 / (3 * min(batch, 16) - 1) if rate > 0.1 else 0.0
    for a, b, expected in ((first, second, shared), (flags[:, 0], flags[:, 1], 0.0)):
        correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
        np.testing.assert_allclose(correlation, expected, atol=4 / a.size**0.5 + 0.02)


@pytest.mark.parametrize("rate", [0.05, 0.3])
@pytest.mark.parametrize("processes", [2, 3, 8])
def test_each_crop_takes_the_same_paths_however_the_batch_is_divided(
    rate: float, processes: int
) -> None:
    depth, batch = StochasticDepth(rate, num_blocks=2, seed=1), 48
    share = batch // processes
    whole = depth.draw(7, batch, range(batch), (2, 3), CPU)
    for rank in range(processes):
        mine = depth.draw(7, batch, range(rank * share, (rank + 1) * share), (2, 3), CPU)
        for paths, part, crops in zip(whole, mine, (2, 3), strict=True):
            expected = taken(paths, crops * batch).reshape(4, crops, batch)
            flags = taken(part, crops * share).reshape(4, crops, share)
            assert (flags == expected[:, :, rank * share : (rank + 1) * share]).all()


def test_dropping_paths_keeps_the_expectation() -> None:
    model = small_vit()
    block, tokens = model.vit.blocks[0], torch.randn(64, 5, 32)
    depth = StochasticDepth(0.4, 1, seed=0)
    with torch.inference_mode():
        runs = []
        for number in range(300):
            (paths,) = depth.draw(number, 64, range(64), (1,), CPU)
            assert paths is not None
            everyone = torch.arange(64)
            runs.append(block(tokens, paths.rows[0], everyone[:0], paths.scale).mean())
        expected = block(tokens, everyone, everyone[:0]).mean()
    torch.testing.assert_close(torch.stack(runs).mean(), expected, atol=2e-3, rtol=0)


def test_a_mask_token_that_comes_with_the_weights_is_taken_up(tmp_path: Path) -> None:
    shape = {"depth": 1, "embed_dim": 32, "num_heads": 2}
    weights = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0, **shape)
    state = {f"backbone.{key}": value for key, value in weights.state_dict().items()}
    state["backbone.mask_token"] = torch.full((1, 32), 0.25)
    torch.save({"teacher": state}, tmp_path / "teacher_checkpoint.pth")
    model = ModelConfig(
        architecture="vit_tiny_patch16_224",
        init=str(tmp_path / "teacher_checkpoint.pth"),
        model_args=shape,
    )
    vit = build_backbone(model, ViewsConfig(global_size=32, local_size=16), seed=0)
    assert (MaskedVisionTransformer(copy.deepcopy(vit)).mask_token == 0.25).all()
    assert "stored_mask_token" not in vit.state_dict()


@pytest.mark.parametrize(("most", "fitting"), [(1000, 0), (1000, 1), (1000, 37), (50, 400), (7, 7)])
def test_the_largest_batch_that_fits_is_found(most: int, fitting: int) -> None:
    tried: list[int] = []

    def fits(size: int) -> bool:
        tried.append(size)
        return size <= fitting

    found = largest_fitting(fits, most)
    best = min(most, fitting)
    assert found <= best
    assert found == best if best < 16 else found % 8 == 0 and found > best * 15 / 16 - 8
    assert max(tried) <= most
    assert len(tried) < 16


def small_config(method: str) -> PretrainConfig:
    return PretrainConfig.model_validate(
        {
            "method": method,
            "model": {
                "architecture": "vit_tiny_patch16_224",
                "model_args": {"depth": 2, "embed_dim": 32, "num_heads": 2},
            },
            "head": {"num_prototypes": 64, "hidden_dim": 32, "bottleneck_dim": 16},
            "views": {"global_size": 64, "local_crops": 2, "local_size": 32},
            "mae": {"decoder_dim": 32, "decoder_depth": 1, "decoder_heads": 2},
            "mocov3": {"hidden_dim": 32, "projection_dim": 16},
            "swav": {"queue_length": 16, "queue_start_epoch": 0, "hidden_dim": 32},
            "panderm": {"teacher": "random:vit_tiny_patch16_224", "teacher_size": 64},
            "steps": 2,
        }
    )


def build(config: PretrainConfig, prototypes: torch.Tensor | None = None) -> Method:
    backbone = build_backbone(config.model, config.views, seed=0)
    return METHODS.get(config.method)(config, backbone, prototypes)


@pytest.mark.parametrize("method", METHODS.names())
def test_blank_batches_have_the_shape_of_real_ones_and_leave_the_method_as_it_is(
    data: Path, method: str
) -> None:
    config = small_config(method)
    model = build(config)
    dataset = PretrainDataset(Manifest.read(data), model.views(config), 16, 6, seed=0)
    real = Collate(None)([dataset[position] for position in range(6)])
    blank = Batch.blank(model.views(config), 16, 6)
    for field in fields(Batch):
        ours, theirs = getattr(blank, field.name), getattr(real, field.name)
        if field.name == "masked":
            assert abs(len(ours) - len(theirs)) <= 6
        elif isinstance(theirs, torch.Tensor):
            assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype), field.name
    before = copy.deepcopy(model.state_dict())
    take_blank_steps(config, Fabric(accelerator="cpu", devices=1), model, 6)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_blank_steps_with_labels_compute_the_knowledge_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = small_config("dermino")
    model = build(config, torch.randn(5, 32))
    blank = Batch.blank(model.views(config), 16, 6, model.num_concepts)
    assert (blank.known == 1).all()
    assert blank.targets.shape == (6, 5)
    terms: list[dict[str, torch.Tensor]] = []
    forward = type(model).forward
    monkeypatch.setattr(
        type(model), "forward", lambda *given: terms.append(forward(*given)) or terms[-1]
    )
    take_blank_steps(config, Fabric(accelerator="cpu", devices=1), model, 6)
    assert [bool(step["knowledge"] > 0) for step in terms] == [True, True]


@pytest.mark.parametrize(
    ("message", "full"),
    [
        ("CUDA error: out of memory", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("CUDA error: an illegal memory access was encountered", False),
        ("The size of tensor a (0) must match the size of tensor b (5)", False),
    ],
)
def test_only_a_full_device_counts_as_not_fitting(message: str, full: bool) -> None:
    assert is_out_of_memory(RuntimeError(message)) is full
    assert is_out_of_memory(torch.cuda.OutOfMemoryError("any words"))


@pytest.fixture
def mesh() -> Iterator[DeviceMesh]:
    """A group of this process alone."""
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    yield init_device_mesh("cpu", (1,), mesh_dim_names=("data_parallel",))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("method", METHODS.names())
def test_every_parameter_is_spread_block_by_block_and_gathered(
    mesh: DeviceMesh, method: str
) -> None:
    model = build(small_config(method))
    before = copy.deepcopy(model.state_dict())
    shard(model, mesh)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    assert all(isinstance(block, FSDPModule) for block in blocks)
    gathered = whole(model.state_dict())
    assert gathered.keys() == before.keys()
    assert all(torch.equal(gathered[key], before[key]) for key in before)
    assert not any(isinstance(value, DTensor) for value in gathered.values())


def test_auto_says_its_batch_and_a_resumed_run_keeps_it(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    overrides = ["batch_size_per_device=auto", "accumulate_grad_batches=2", "steps=2"]
    train(data, tmp_path / "auto", *overrides)
    assert "batch_size_per_device: auto takes 12: half of the free" in capsys.readouterr().err
    config = load_config(PretrainConfig, tmp_path / "auto" / "config.yaml")
    assert config.batch_size_per_device == 12
    monkeypatch.setattr(batch_size, "_free_memory", lambda: 2**20)
    with pytest.raises(UserError, match="Not even one image fits"):
        train(data, tmp_path / "none", *overrides)
    (tmp_path / "auto" / "checkpoints" / "step_00000002.pt").unlink()
    train(data, tmp_path / "auto", *overrides, resume=True)
    assert len(losses(tmp_path / "auto")) == 2


@pytest.mark.parametrize(
    ("rate", "processes", "steady"),
    [(0.0, 3, True), (0.3, 2, True), (0.3, 3, False), (0.05, 1, False)],
)
def test_shapes_are_steady_where_it_is_said(rate: float, processes: int, steady: bool) -> None:
    depth, batch = StochasticDepth(rate, num_blocks=1, seed=0), 96 if processes == 2 else 72
    assert depth.keeps_shapes(batch, processes) is steady
    share = range(batch // processes)
    draws = [depth.draw(number, batch, share, (1,), CPU)[0] for number in range(20)]
    counts = {len(rows) for paths in draws if paths is not None for rows in paths.rows}
    assert (len(counts) <= 1) is steady


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_kept_for_the_next_step_and_given_back_at_the_end() -> None:
    def resident() -> float:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    with freed_memory_kept(CPU):
        tensor = torch.ones(64, 2**18)  # 64 MiB
        in_use = resident()
        del tensor
        assert resident() > in_use - 4
    assert resident() < in_use - 60
