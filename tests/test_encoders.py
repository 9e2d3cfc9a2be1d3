"""Encoders by name, and weights in every layout they come in."""

import logging
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from dermino.errors import UserError
from dermino.models.encoder_file import EncoderFile
from dermino.models.hub import fetch
from dermino.models.load import load_encoder, split_alias
from dermino.models.masked_vit import MaskedVisionTransformer
from dermino.models.preprocess import Preprocess
from dermino.models.weight_names import compressed
from dermino.models.weights import load_into, read_state

SMALL = {"depth": 2, "embed_dim": 384, "num_heads": 6}
SHARED = Path(__file__).resolve().parents[2] / "shared"


def dinov2(image_size: int, **changes: int) -> timm.models.VisionTransformer:
    arguments = {**SMALL, **changes, "img_size": image_size, "num_classes": 0}
    return timm.create_model("vit_small_patch14_dinov2", **arguments)


@pytest.fixture
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, 3, 56, 56), generator=generator, dtype=torch.uint8)


def test_the_layouts_dinov2_weights_come_in_give_the_same_model(tmp_path: Path) -> None:
    official = {**dinov2(56).state_dict(), "mask_token": torch.zeros(1, 384)}
    save_file(official, tmp_path / "official.safetensors")
    torch.save(official, tmp_path / "official.pth")
    heads = {"dino_head.mlp.0.weight": torch.zeros(3)}
    teacher = {**{f"backbone.{key}": value for key, value in official.items()}, **heads}
    torch.save({"teacher": teacher}, tmp_path / "teacher_checkpoint.pth")
    chunked = {key.replace("blocks.", "blocks.0."): value for key, value in official.items()}
    torch.save(chunked, tmp_path / "chunked.pth")
    for name in ("official.safetensors", "official.pth", "teacher_checkpoint.pth", "chunked.pth"):
        model = dinov2(56)
        load_into(model, read_state(tmp_path / name), name)
        assert all(
            torch.equal(model.state_dict()[key], official[key]) for key in model.state_dict()
        )


@pytest.mark.parametrize("registers", [0, 4])
def test_hugging_face_models_give_the_same_features(registers: int, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    size = {"hidden_size": 384, "num_hidden_layers": 2, "num_attention_heads": 6}
    kind = "Dinov2WithRegisters" if registers else "Dinov2"
    arguments = {"num_register_tokens": registers} if registers else {}
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(
        **size, image_size=56, patch_size=14, **arguments
    )
    theirs = getattr(transformers, f"{kind}Model")(config).eval()
    theirs.save_pretrained(tmp_path)
    architecture = f"vit_small_patch14{'_reg4' if registers else ''}_dinov2"
    ours = timm.create_model(architecture, num_classes=0, img_size=56, depth=2).eval()
    load_into(ours, read_state(tmp_path), "hugging face")
    pixels = torch.randn(2, 3, 56, 56)
    with torch.inference_mode():
        expected = theirs(pixels).last_hidden_state[:, 0]
        torch.testing.assert_close(ours(pixels), expected, atol=1e-5, rtol=1e-5)


def test_position_embeddings_are_resized_to_the_image_size(tmp_path: Path) -> None:
    save_file(dinov2(112).state_dict(), tmp_path / "large.safetensors")
    model = dinov2(56)
    load_into(model, read_state(tmp_path / "large.safetensors"), "large")
    state = load_file(tmp_path / "large.safetensors")["pos_embed"]
    # DINOv2's interpolate_pos_encoding: scale (4 + 0.1) / 8, no antialiasing.
    grid = state[:, 1:].reshape(1, 8, 8, 384).permute(0, 3, 1, 2)
    resized = F.interpolate(grid, scale_factor=(4.1 / 8, 4.1 / 8), mode="bicubic")
    torch.testing.assert_close(model.pos_embed[:, :1], state[:, :1])
    torch.testing.assert_close(model.pos_embed[:, 1:], resized.flatten(2).transpose(1, 2))


def test_weights_that_do_not_fit_are_listed_and_nothing_is_skipped(tmp_path: Path) -> None:
    state = dinov2(56).state_dict()
    del state["blocks.1.mlp.fc1.bias"]
    state["surplus"] = torch.zeros(1)
    with pytest.raises(UserError, match=r"(?s)1 missing: blocks.1.mlp.fc1.bias.*surplus"):
        load_into(dinov2(56), state, "here")
    with pytest.raises(UserError, match=r"28 missing: blocks\.\{1\.\.2\}\.attn\.proj"):
        load_into(dinov2(56, depth=3), dinov2(56, depth=1).state_dict(), "here")
    with pytest.raises(UserError, match="192 wide, the model is 384 wide"):
        load_into(dinov2(56), dinov2(56, embed_dim=192).state_dict(), "here")
    with pytest.raises(UserError, match="patches of 8 px, the model of 14 px"):
        load_into(dinov2(56), dinov2(56, patch_size=8).state_dict(), "here")


def test_heads_are_left_out_aloud_and_nothing_else_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state, path = dinov2(56).state_dict(), tmp_path / "checkpoint.pth"
    teacher = {f"backbone.{key}": value for key, value in state.items()}
    heads = {f"{name}.last_layer.weight_g": torch.ones(3) for name in ("dino_head", "ibot_head")}
    torch.save({"teacher": {**teacher, **heads}}, path)
    assert read_state(path).keys() == state.keys()
    said = "checkpoint.pth': left out: 2 weights of heads (dino_head, ibot_head)."
    assert capsys.readouterr().err.count(said) == 1
    torch.save({"teacher": {**teacher, **heads, "surprise.weight": torch.ones(3)}}, path)
    with pytest.raises(UserError, match=r"1 unexpected: surprise\.weight"):
        read_state(path)
    load_into(dinov2(56), {**state, "head.weight": torch.ones(5, 384)}, "here")
    assert "left out: 1 weight of heads (head)." in capsys.readouterr().err


def test_of_a_student_and_its_teacher_the_teacher_is_taken(tmp_path: Path) -> None:
    state = dinov2(56).state_dict()
    flat = {f"teacher.backbone.{key}": value for key, value in state.items()}
    flat |= {f"student.backbone.{key}": -value for key, value in state.items()}
    torch.save(flat, tmp_path / "both.pth")
    read = read_state(tmp_path / "both.pth")
    assert read.keys() == state.keys()
    assert all(torch.equal(read[key], state[key]) for key in state)


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"),
        ("vit_small_patch14_reg4_dinov2", "vit_small_patch14_dinov2"),
    ],
)
def test_other_registers_are_named_with_the_architecture_that_fits(given: str, asked: str) -> None:
    theirs, ours = (
        timm.create_model(name, img_size=56, num_classes=0, depth=1) for name in (given, asked)
    )
    with pytest.raises(UserError, match=rf"(?s)[04] register tokens.*architecture {given},"):
        load_into(ours, theirs.state_dict(), "here")


def test_names_of_weights_are_shortened_without_losing_one() -> None:
    names = [f"blocks.{i}.{j}.w" for i in range(3) for j in (0, 2)]
    names += ["blocks.1.norm.bias", "blocks.1.norm.weight", "cls_token", "a.b (1,) instead of (2,)"]
    assert compressed(names) == [
        "blocks.{0..2}.{0,2}.w",
        "blocks.1.norm.{bias,weight}",
        "cls_token",
        "a.b (1,) instead of (2,)",
    ]


def test_a_hub_that_does_not_answer_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    def asks_five_times() -> None:
        for attempt in range(1, 6):
            logging.getLogger("huggingface_hub.utils._http").warning("Retrying in 1s [%d]", attempt)
        raise OSError("no connection")

    with pytest.raises(UserError, match=r"(?s)'timm:x' could not be fetched.*By hand"):
        fetch("'timm:x'", asks_five_times, "By hand.")
    assert capsys.readouterr().err.splitlines() == [
        "The hub does not answer; trying again for up to a minute."
    ]


def test_files_that_would_run_code_or_are_no_weights_are_refused(tmp_path: Path) -> None:
    torch.save({"model": Path("code")}, tmp_path / "pickled.pth")
    (tmp_path / "text.safetensors").write_text("no weights")
    (tmp_path / "empty.pth").touch()
    torch.save({0: torch.zeros(2)}, tmp_path / "numbered.pth")
    for name in ("pickled.pth", "text.safetensors", "absent.pth", "empty.pth", "numbered.pth"):
        with pytest.raises(UserError, match=name):
            read_state(tmp_path / name)
    save_file(dinov2(56).state_dict(), tmp_path / "x.safetensors", {"architecture": "vit"})
    with pytest.raises(UserError, match="its description cannot be read"):
        load_encoder(str(tmp_path / "x.safetensors"))


def test_an_encoder_file_brings_all_it_needs(tmp_path: Path, images: torch.Tensor) -> None:
    model = dinov2(56).eval()
    path = tmp_path / "encoder.safetensors"
    described = EncoderFile(
        "vit_small_patch14_dinov2",
        {**SMALL, "img_size": 56},
        Preprocess.for_size(56),
        seen={"clinic": {"images": 3, "labelled": 1}},
    )
    described.write(path, model.state_dict())
    encoder = load_encoder(f"mine={path}")
    assert (encoder.name, encoder.seen) == ("mine", described.seen)
    assert (encoder.preprocess.image_size, encoder.preprocess.resize_size) == (56, 64)
    with torch.inference_mode():
        torch.testing.assert_close(
            encoder.embed(images), model(encoder.preprocess.normalise(images))
        )
        vector, tokens = encoder.tokens(images)
        (last,) = encoder.stages(images, [1])
    assert vector.shape == (2, 384)
    assert tokens.shape == (2, 4, 4, 384)
    torch.testing.assert_close(last, tokens)
    assert load_encoder(str(path), image_size=112).preprocess.resize_size == 128


def test_convolutional_networks_are_encoders_too(images: torch.Tensor) -> None:
    encoder = load_encoder("random:resnet18")
    with torch.inference_mode():
        vector, tokens = encoder.tokens(images)
    assert vector.shape == (2, 512)
    assert tokens.shape == (2, 2, 2, 512)


def test_identity_changes_with_weights_and_preprocessing() -> None:
    encoder = load_encoder("random:resnet10t")
    same, smaller = load_encoder("random:resnet10t"), load_encoder("random:resnet10t", 64)
    assert encoder.identity == same.identity != smaller.identity
    changed = load_encoder("random:resnet10t")
    next(changed.parameters()).data.view(-1)[0] += 1
    assert changed.identity != encoder.identity


def test_names_that_do_not_exist_suggest_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="vit_base_patch14_dinov2"):
        load_encoder("timm:vit_base_patch14_dinov")
    with pytest.raises(UserError, match=r"encoder\.safetensors"):
        load_encoder(str(tmp_path))
    assert split_alias("full=runs/full/encoder.safetensors") == (
        "full",
        "runs/full/encoder.safetensors",
    )
    assert split_alias("runs/full/encoder.safetensors")[0] == "full"


def test_unmasked_crops_of_the_models_own_size_pass_as_through_timm(images: torch.Tensor) -> None:
    model = dinov2(56).eval()
    pixels = Preprocess().normalise(images)
    with torch.inference_mode():
        class_token, patches = MaskedVisionTransformer(model).eval()(pixels)
        expected = model.forward_features(pixels)
    torch.testing.assert_close(torch.cat([class_token[:, None], patches], dim=1), expected)


def test_masked_patches_do_not_reach_the_output(images: torch.Tensor) -> None:
    model = MaskedVisionTransformer(dinov2(56)).eval()
    pixels = Preprocess().normalise(images)
    masks = torch.zeros(2, 16, dtype=torch.bool)
    masks[0, 0] = True
    changed = pixels.clone()
    changed[0, :, :14, :14] = 0
    with torch.inference_mode():
        before, after = model(pixels, masks)[0], model(changed, masks)[0]
    torch.testing.assert_close(before, after)


def test_small_crops_use_the_resized_position_embedding() -> None:
    model = MaskedVisionTransformer(dinov2(112)).eval()
    with torch.inference_mode():
        class_token, patches = model(torch.randn(1, 3, 42, 42))
    assert class_token.shape == (1, 384)
    assert patches.shape == (1, 9, 384)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared weights are not here")
def test_published_weights_load_whole() -> None:
    path = SHARED / "weights" / "dinov2_derived_vits14.fp16.safetensors"
    encoder = load_encoder(str(path), image_size=98)
    assert encoder.architecture == "vit_small_patch14_dinov2"
    assert encoder.backbone.pos_embed.shape == (1, 50, 384)
