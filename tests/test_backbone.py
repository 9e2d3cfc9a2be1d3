"""The backbone of pretraining: what its blocks leave out, share or write over changes nothing."""

from __future__ import annotations

import copy
from functools import partial

import pytest
import timm
import torch
from timm.models.vision_transformer import Block

from dermino.errors import UserError
from dermino.models.block import PretrainingBlock
from dermino.models.masked_vit import MaskedVisionTransformer
from dermino.models.patch_selection import PatchSelection
from dermino.pretrain.launch import compile_blocks
from dermino.pretrain.stochastic_depth import StochasticDepth
from tiny_run import small_vit

CPU = torch.device("cpu")


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


@pytest.mark.parametrize(("most", "registers"), [(4, 0), (2, 0), (3, 2)])
@pytest.mark.parametrize("rate", [0.0, 0.4])
def test_only_wanted_patches_are_computed_and_nothing_else_changes(
    rate: float, most: int, registers: int
) -> None:
    model = small_vit(reg_tokens=registers).double()
    images, places = torch.randn(6, 3, 32, 32).double(), torch.tensor([0, 3, 9, 23])
    wanted = PatchSelection(places, images=torch.tensor([0, 2, 5]), most=most)
    (paths,) = StochasticDepth(rate, 3, seed=0).draw(0, 6, range(6), (1,), CPU)

    def gradients(class_tokens: torch.Tensor, patches: torch.Tensor) -> list[torch.Tensor]:
        model.zero_grad()
        (class_tokens.square().sum() + patches.sin().sum()).backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    class_tokens, patches = model(images, paths=paths)
    patches = patches.flatten(0, 1)[places]
    few_class_tokens, few = model(images, paths=paths, wanted=wanted)
    torch.testing.assert_close(few_class_tokens, class_tokens)
    torch.testing.assert_close(few, patches)
    for ours, expected in zip(
        gradients(few_class_tokens, few), gradients(class_tokens, patches), strict=True
    ):
        torch.testing.assert_close(ours, expected)
    only_class_tokens, none = model(images, paths=paths, wanted=PatchSelection.none(CPU))
    class_tokens, patches = model(images, paths=paths)
    torch.testing.assert_close(only_class_tokens, class_tokens)
    assert none.shape == (0, 32)
    for ours, expected in zip(
        gradients(only_class_tokens, none), gradients(class_tokens, patches[:0]), strict=True
    ):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("masked", [None, [0, 3, 9, 23]])
def test_writing_in_place_changes_no_gradient(
    masked: list[int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_vit().double()
    images = torch.randn(6, 3, 32, 32).double()
    (paths,) = StochasticDepth(0.4, 3, seed=0).draw(0, 6, range(6), (1,), CPU)
    wanted = None
    if masked is not None:
        wanted = PatchSelection.of(
            torch.zeros(24).bool().index_fill(0, torch.tensor(masked), True).view(6, 4)
        )

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


def test_passes_that_share_scaled_weights_have_the_same_gradients() -> None:
    model = small_vit(init_values=0.3).double()
    wide, narrow = torch.randn(6, 3, 32, 32).double(), torch.randn(12, 3, 16, 16).double()
    paths = StochasticDepth(0.4, 3, seed=0).draw(0, 6, range(6), (1, 2), CPU)

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        tokens = [model(wide, paths=paths[0])[0], model(narrow, paths=paths[1])[0]]
        torch.cat(tokens).sin().sum().backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    alone = gradients()
    for _ in range(2):
        with model.passes_of_one_step():
            together = gradients()
        for ours, expected in zip(together, alone, strict=True):
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
        wanted = PatchSelection.of(masks)
        tokens, patches = model(torch.randn(8, 3, 32, 32), masks, paths, wanted)
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
