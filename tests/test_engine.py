"""How a run is carried out: accumulation, recomputation, stochastic depth, size of the batch."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import fields
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from lightning.fabric import Fabric
from safetensors.torch import load_file
from timm.models.vision_transformer import Block
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

from dermino.config import load_config
from dermino.data.manifest import Manifest
from dermino.errors import UserError
from dermino.models.block import PretrainingBlock
from dermino.models.masked_vit import MaskedVisionTransformer
from dermino.models.stochastic_depth import Paths
from dermino.pretrain import batch_size
from dermino.pretrain.backbone import build_backbone
from dermino.pretrain.batch import Batch, Collate
from dermino.pretrain.batch_size import is_out_of_memory, largest_fitting, take_blank_steps
from dermino.pretrain.config import ModelConfig, PretrainConfig, ViewsConfig
from dermino.pretrain.dataset import PretrainDataset
from dermino.pretrain.launch import compile_blocks
from dermino.pretrain.method import METHODS, Method
from dermino.pretrain.objectives.knowledge import knowledge_loss
from dermino.pretrain.pretrain import pretrain
from dermino.pretrain.sharding import shard, whole
from dermino.pretrain.stochastic_depth import StochasticDepth
from tiny_run import TINY, write_archive

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


def small_vit(**options: int) -> MaskedVisionTransformer:
    torch.manual_seed(0)
    shape = {"img_size": 32, "depth": 3, "embed_dim": 32, "num_heads": 2, **options}
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, **shape)
    return MaskedVisionTransformer(vit)


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


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.4])
def test_computing_blocks_again_leaves_the_gradients_as_they_are(rate: float) -> None:
    model = small_vit()
    images, masks = torch.randn(6, 3, 32, 32), torch.rand(6, 4) < 0.5
    (paths,) = StochasticDepth(rate, 3, seed=0).draw(0, 6, range(6), (1,), CPU)

    def gradients(checkpoint_activations: bool) -> list[torch.Tensor]:
        model.zero_grad()
        model.checkpoint_activations = checkpoint_activations
        class_tokens, patches = model(images, masks, paths)
        (class_tokens.square().sum() + patches.sin().sum()).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    for kept, recomputed in zip(gradients(False), gradients(True), strict=True):
        assert torch.equal(kept, recomputed)


@pytest.mark.parametrize(("most", "registers"), [(None, 0), (2, 0), (3, 2)])
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_only_wanted_patches_are_computed_and_nothing_else_changes(
    rate: float, most: int | None, registers: int
) -> None:
    model = small_vit(reg_tokens=registers).double()
    images, wanted = torch.randn(6, 3, 32, 32).double(), torch.tensor([0, 3, 9, 23])
    (paths,) = StochasticDepth(rate, 3, seed=0).draw(0, 6, range(6), (1,), CPU)

    def gradients(class_tokens: torch.Tensor, patches: torch.Tensor) -> list[torch.Tensor]:
        model.zero_grad()
        (class_tokens.square().sum() + patches.sin().sum()).backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    class_tokens, patches = model(images, paths=paths)
    patches = patches.flatten(0, 1)[wanted]
    few_class_tokens, few = model(images, paths=paths, wanted=wanted, most=most)
    torch.testing.assert_close(few_class_tokens, class_tokens)
    torch.testing.assert_close(few, patches)
    for ours, expected in zip(
        gradients(few_class_tokens, few), gradients(class_tokens, patches), strict=True
    ):
        torch.testing.assert_close(ours, expected)
    only_class_tokens, none = model(images, paths=paths, wanted=wanted[:0])
    torch.testing.assert_close(only_class_tokens, class_tokens)
    assert none.shape == (0, 32)


@pytest.mark.parametrize("wanted", [None, torch.tensor([0, 3, 9, 23])])
def test_writing_in_place_changes_no_gradient(
    wanted: torch.Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_vit().double()
    images = torch.randn(6, 3, 32, 32).double()
    (paths,) = StochasticDepth(0.4, 3, seed=0).draw(0, 6, range(6), (1,), CPU)

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        class_tokens, patches = model(images, paths=paths, wanted=wanted)
        (class_tokens.square().sum() + patches.sin().sum()).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    in_place = gradients()
    seen = []
    hook = model.vit.blocks[0].register_forward_hook(
        lambda _, __, tokens: seen.append((tokens, tokens.detach().clone()))
    )
    gradients()
    hook.remove()
    assert torch.equal(*seen[0])  # What a hook has seen is not written over.
    # A compiler is told to write nothing in place.
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for ours, expected in zip(in_place, gradients(), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("options", [{}, {"qkv_bias": False, "qk_norm": True}])
def test_a_block_computes_what_timms_does(options: dict[str, bool]) -> None:
    torch.manual_seed(0)
    plain = Block(32, 2, init_values=0.3, **{"qkv_bias": True, **options}).double()
    torch.nn.init.normal_(plain.ls1.gamma)
    ours = copy.deepcopy(plain)
    PretrainingBlock.adopt(ours)
    tokens = torch.randn(4, 5, 32, dtype=torch.float64, requires_grad=True)
    attends, perceives, scale = torch.tensor([0, 2]), torch.tensor([1, 2, 3]), 1.7

    def of_timm() -> torch.Tensor:
        added = plain.ls1(plain.attn(plain.norm1(tokens)))
        middle = tokens + scale * added * torch.tensor([1, 0, 1, 0]).view(-1, 1, 1)
        added = plain.ls2(plain.mlp(plain.norm2(middle)))
        return middle + scale * added * torch.tensor([0, 1, 1, 1]).view(-1, 1, 1)

    for expected, found in (
        (plain(tokens), ours(tokens)),
        (of_timm(), ours(tokens, attends, perceives, scale)),
    ):
        torch.testing.assert_close(found, expected)
        weights = torch.randn_like(expected)
        of_both = [
            torch.autograd.grad((result * weights).sum(), [tokens, *block.parameters()])
            for result, block in ((found, ours), (expected, plain))
        ]
        for mine, theirs in zip(*of_both, strict=True):
            torch.testing.assert_close(mine, theirs)


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


def test_half_precision_leaves_what_blocks_add_up_in_float32() -> None:
    model, dtypes = small_vit(), []
    for block in model.vit.blocks:
        block.register_forward_hook(lambda _, __, tokens: dtypes.append(tokens.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(6, 3, 32, 32), torch.rand(6, 4) < 0.5)
    assert dtypes == [torch.float32] * 3


def test_blocks_that_are_not_plain_are_refused() -> None:
    vit = timm.create_model("vit_relpos_small_patch16_224", num_classes=0)
    with pytest.raises(UserError, match="cannot be pretrained"):
        MaskedVisionTransformer(vit)


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
        if field.name == "masked_indices":
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


def test_steps_with_other_numbers_of_masked_patches_share_their_graphs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graphs = []

    def count(graph: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=count))
    model = small_vit()
    compile_blocks(model, dynamic=False)
    numbers = []
    for step in range(4):
        (paths,) = StochasticDepth(0.4, 3, seed=0).draw(step, 8, range(8), (1,), CPU)
        masks = torch.zeros(8, 4, dtype=torch.bool)
        masks[:4, : 1 + step % 2] = True
        masks[5, 0] = step > 1
        wanted = masks.flatten().nonzero().squeeze(1)
        tokens, patches = model(torch.randn(8, 3, 32, 32), masks, paths, wanted, most=2)
        (tokens.sum() + patches.sum()).backward()
        numbers.append((len(wanted), len(graphs)))
    assert len({wanted for wanted, _ in numbers}) == 4
    assert {compiled for _, compiled in numbers} == {2}  # Blocks, and the last one.


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_blocks_compute_the_same(monkeypatch: pytest.MonkeyPatch, dynamic: bool) -> None:
    # The same graphs, without waiting for a C++ compiler.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    eager, compiled = small_vit(), small_vit()
    compiled.checkpoint_activations = True
    compile_blocks(compiled, dynamic)
    assert compiled.state_dict().keys() == eager.state_dict().keys()
    wide, narrow = torch.randn(6, 3, 32, 32), torch.randn(12, 3, 16, 16)
    paths = StochasticDepth(0.3, 3, seed=0).draw(0, 6, range(6), (1, 2), CPU)
    for model in (eager, compiled):
        tokens = [model(wide, paths=paths[0])[0], model(narrow, paths=paths[1])[0]]
        torch.cat(tokens).square().sum().backward()
    for expected, ours in zip(eager.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad, atol=1e-4, rtol=1e-4)


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
