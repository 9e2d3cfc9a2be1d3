"""Encoders of open_clip and transformers, and what happens where a hub cannot help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dermino.errors import UserError
from dermino.models.encoder import Encoder
from dermino.models.load import create_backbone, load_encoder, parse_spec
from dermino.models.named import named_encoders
from dermino.models.open_clip_tower import OpenClipTower
from dermino.models.preprocess import Preprocess

EXACT = {"atol": 1e-5, "rtol": 1e-5}
SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 128,
    "image_size": 64,
    "patch_size": 16,
}
TEXT = {"context_length": 8, "vocab_size": 20, "width": 16, "heads": 2, "layers": 1}
# Mean, deviation, size and crop as CLIP's repositories state them.
PROCESSOR = {
    "image_processor_type": "CLIPImageProcessor",
    "do_resize": True,
    "size": {"shortest_edge": 72},
    "do_center_crop": True,
    "crop_size": {"height": 64, "width": 64},
    "resample": 3,
    "do_normalize": True,
    "image_mean": [0.1, 0.2, 0.3],
    "image_std": [0.4, 0.5, 0.6],
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def randomise(model: nn.Module) -> Any:
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def pictures(encoder: Encoder) -> tuple[torch.Tensor, torch.Tensor]:
    side = encoder.preprocess.image_size
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    return images, encoder.preprocess.normalise(images)


def replace_row(monkeypatch: pytest.MonkeyPatch, name: str, **changed: Any) -> None:
    row = named_encoders()[name]
    monkeypatch.setitem(named_encoders(), name, row.model_copy(update=changed))


def clip_model(quick_gelu: bool) -> Any:
    open_clip = pytest.importorskip("open_clip")
    vision = {"image_size": 64, "patch_size": 16, "width": 64, "layers": 2, "head_width": 32}
    return randomise(open_clip.CLIP(24, vision, TEXT, quick_gelu=quick_gelu))


@pytest.mark.parametrize("projected", [False, True])
def test_clip_files_with_quick_gelu(
    projected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = clip_model(quick_gelu=True)
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    name = "clip-projected" if projected else "clip"
    args = {"embed_dim": 64, "depth": 2, "num_heads": 2}
    assert "quickgelu" in named_encoders()[name].architecture
    replace_row(
        monkeypatch, name, model_args=args, image_size=64, projection=24 if projected else None
    )
    encoder = load_encoder(f"{name}={tmp_path / 'clip.pt'}")
    images, pixels = pictures(encoder)
    if not projected:
        model.visual.proj = None
    with torch.inference_mode():
        torch.testing.assert_close(encoder.embed(images), model.visual(pixels), **EXACT)
    assert encoder.embed_dim == (24 if projected else 64)
    if projected:  # Whatever does not fit is listed.
        replace_row(monkeypatch, name, model_args={**args, "depth": 3}, image_size=64)
        with pytest.raises(UserError, match=r"12 missing: blocks.2.attn.proj"):
            load_encoder(f"{name}={tmp_path / 'clip.pt'}")


@pytest.mark.parametrize(
    ("name", "pool", "projection"),
    [
        ("biomedclip", "", "linear"),
        ("biomedclip-projected", "", "linear"),
        ("siglip", "map", "none"),
    ],
)
def test_open_clip_files_around_a_timm_tower(
    name: str, pool: str, projection: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_clip = pytest.importorskip("open_clip")
    tower = {"siglip": "vit_base_patch16_siglip_224"}.get(name, "vit_base_patch16_224")
    timm = pytest.importorskip("timm")
    create, args = timm.create_model, {"embed_dim": 64, "depth": 2, "num_heads": 2}

    def small(architecture: str, **options: Any) -> Any:
        return create(architecture, **{**options, **args})

    vision = {
        "timm_model_name": tower, "timm_pool": pool, "timm_proj": projection, "image_size": 224,
    }  # fmt: skip
    with monkeypatch.context() as patched:
        patched.setattr(timm, "create_model", small)
        model = randomise(open_clip.CustomTextCLIP(64 if pool else 24, vision, TEXT))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "open_clip_pytorch_model.bin")
    projected = name.endswith("projected")
    replace_row(monkeypatch, name, model_args=args, projection=24 if projected else None)
    encoder = load_encoder(f"{name}={tmp_path / 'open_clip_pytorch_model.bin'}")
    images, pixels = pictures(encoder)
    with torch.inference_mode():
        expected = model.visual(pixels) if projected else model.visual.trunk(pixels)
        vector, tokens = encoder.tokens(images)
    torch.testing.assert_close(vector, expected, **EXACT)
    # SigLIP's first token is a patch like the others.
    assert tokens.shape == (2, 14, 14, 64)


def test_dermlip_folders_say_their_own_activation_and_normalisation(
    tmp_path: Path,
) -> None:
    identities = set()
    for quick_gelu in (False, True):
        torch.manual_seed(0)
        folder = tmp_path / f"quick-{quick_gelu}"
        folder.mkdir()
        model = clip_model(quick_gelu)
        torch.save(model.state_dict(), folder / "open_clip_pytorch_model.bin")
        vision = {"image_size": 64, "patch_size": 16, "width": 64, "layers": 2, "head_width": 32}
        config = {"embed_dim": 24, "vision_cfg": vision, "text_cfg": TEXT, "quick_gelu": quick_gelu}
        told = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "resize_mode": "squash"}
        (folder / "open_clip_config.json").write_text(
            json.dumps({"model_cfg": config, "preprocess_cfg": told})
        )
        encoder = load_encoder(str(folder))
        images, pixels = pictures(encoder)
        with torch.inference_mode():
            torch.testing.assert_close(encoder.embed(images), model.visual(pixels), **EXACT)
            (last,) = encoder.stages(images, [1])
            assert encoder.tokens(images)[1].equal(last)
        assert encoder.preprocess.mean == (0.1, 0.2, 0.3)
        assert (encoder.preprocess.mode, encoder.embed_dim, last.shape[3]) == ("squash", 24, 64)
        tower = load_encoder(f"dermlip={folder}")
        assert (tower.name, tower.embed_dim) == ("dermlip", 64)
        assert tower.preprocess == encoder.preprocess
        identities.add(tower.identity)
        with pytest.raises(UserError, match="takes images of 64 pixels only"):
            load_encoder(str(folder), image_size=32)
    assert len(identities) == 2  # Equal weights, other features.


def test_convolutional_towers_of_open_clip(tmp_path: Path) -> None:
    open_clip = pytest.importorskip("open_clip")
    vision = {"image_size": 64, "width": 16, "layers": [1, 1, 1, 1]}
    model = open_clip.CLIP(24, vision, TEXT).eval()
    encoder = Encoder("tower", OpenClipTower(model, True), Preprocess(64, 64), "RN")
    images, pixels = pictures(encoder)
    with torch.inference_mode():
        torch.testing.assert_close(encoder.embed(images), model.visual(pixels), **EXACT)
        assert [stage.shape[1] for stage in encoder.stages(images)] == [16, 8, 4, 2]
    assert encoder.embed_dim == 24
    with pytest.raises(UserError, match="no features before its projection"):
        OpenClipTower(model, False)
    for name, nearest in (("ViT-B-17/openai", "ViT-B-16"), ("ViT-B-16/openay", "openai")):
        with pytest.raises(UserError, match=f"Did you mean '{nearest}'"):
            load_encoder(f"open_clip:{name}")


def test_open_clip_tags_bring_the_activation_they_were_trained_with(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    open_clip = pytest.importorskip("open_clip")
    asked: list[dict[str, Any]] = []

    def create(name: str, **options: Any) -> Any:
        asked.append({"name": name, **options})
        raise OSError("no connection")

    monkeypatch.setattr(open_clip, "create_model", create)
    for tag in ("openai", "laion2b_s34b_b88k"):
        with pytest.raises(UserError, match="no connection"):
            load_encoder(f"open_clip:ViT-B-16/{tag}")
    assert [options["force_quick_gelu"] for options in asked] == [True, False]


@pytest.mark.parametrize(
    ("kind", "prefix"),
    [
        ("CLIPVision", 1),
        ("SiglipVision", 0),
        ("ViT", 1),
        ("DINOv3ViT", 5),
        ("Swin", 0),
        ("ConvNext", 0),
    ],
)
def test_any_transformers_vision_model(kind: str, prefix: int, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes: dict[str, Any] = {
        "Swin": {"embed_dim": 16, "depths": [1] * 3, "num_heads": [2] * 3, "window_size": 4},
        "ConvNext": {"hidden_sizes": [8, 12, 16, 24], "depths": [1] * 4, "patch_size": 4},
        "DINOv3ViT": {**SMALL, "num_register_tokens": 4},
    }
    config = getattr(transformers, f"{kind}Config")(**{"image_size": 64, **sizes.get(kind, SMALL)})
    model = randomise(getattr(transformers, f"{kind}Model")(config))
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    encoder = load_encoder(f"hf:{tmp_path}")
    images, pixels = pictures(encoder)
    with torch.inference_mode():
        theirs = model(pixels)
        vector, tokens = encoder.tokens(images)
        stages = encoder.stages(images)
        last = theirs.last_hidden_state
        if kind == "CLIPVision":  # Only the class token is normed there.
            last = getattr(model, "vision_model", model).post_layernorm(last)
    pooled = last[:, 0] if prefix else theirs.pooler_output
    if kind == "Swin":
        assert [stage.shape[1] for stage in stages] == [8, 4, 4]
    elif kind == "ConvNext":
        last = last.flatten(2).transpose(1, 2)
        assert [stage.shape[1] for stage in stages] == [16, 8, 4, 2]
    else:
        assert len(stages) == 4
        torch.testing.assert_close(stages[-1], tokens)
    torch.testing.assert_close(vector, pooled, **EXACT)
    torch.testing.assert_close(tokens.flatten(1, 2), last[:, prefix:], **EXACT)
    assert encoder.embed_dim == vector.shape[1]
    assert encoder.preprocess.std == (0.4, 0.5, 0.6)
    assert (encoder.preprocess.image_size, encoder.preprocess.resize_size) == (64, 72)


def test_a_transformers_model_must_be_whole_and_say_its_normalisation(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    from safetensors.torch import load_file, save_file

    model = randomise(transformers.ViTModel(transformers.ViTConfig(**SMALL)))
    model.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="how its images are to be normalised"):
        load_encoder(str(tmp_path))
    state = load_file(tmp_path / "model.safetensors")
    lost = next(key for key in state if key.endswith("layernorm.weight"))
    del state[lost]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"1 missing: .*layernorm.weight"):
        load_encoder(f"hf:{tmp_path}")
    bert = transformers.BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    transformers.BertModel(bert).save_pretrained(tmp_path / "text")
    (tmp_path / "text" / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    with pytest.raises(UserError, match="BertModel, which takes no images"):
        load_encoder(str(tmp_path / "text"))


def test_the_image_tower_of_a_two_tower_model_is_taken(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 9}
    config = transformers.CLIPConfig(text_config=text, vision_config=SMALL, projection_dim=24)
    model = randomise(transformers.CLIPModel(config))
    model.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    encoder = load_encoder(str(tmp_path), image_size=96)
    images, pixels = pictures(encoder)
    with torch.inference_mode():
        theirs = model.vision_model(pixels, interpolate_pos_encoding=True).pooler_output
        vector, tokens = encoder.tokens(images)
    torch.testing.assert_close(vector, theirs, **EXACT)
    assert tokens.shape == (2, 6, 6, 64)
    assert encoder.preprocess.resize_size == 108


def test_the_table_says_what_is_built() -> None:
    for name, row in named_encoders().items():
        if row.library == "open_clip":
            continue
        args = {"num_classes": row.projection or 0, **row.model_args}
        if "dinov2" in row.architecture:
            args["img_size"] = row.image_size
        with torch.device("meta"):
            backbone: Any = create_backbone(row.architecture, **args)
        if not row.final_norm:
            backbone.prune_intermediate_layers(prune_norm=True, prune_head=False)
        counted = sum(parameter.numel() for parameter in backbone.parameters())
        assert counted == row.parameters, name
        assert row.embed_dim == (row.projection or backbone.num_features), name


def test_supplementary_table_1_is_reproduced() -> None:
    """Its transformers of patch 16 hold positions for 672 pixels (42 x 42), whatever they see."""
    grid = 42 * 42 - 14 * 14
    attention_pool, last_norm = 7_087_104, 2 * 768
    differences = {
        "resnext101": 0,
        "vit-base": grid * 768,
        "biomedclip": grid * 768,
        "siglip": grid * 768 - attention_pool,
        # With the projection, without its bias (timm's) and without the last norm.
        "clip": grid * 768 + 512 * 768 - last_norm,
        "medimageinsight": -2 * 2048,  # without the last norm
        # Counted with patches of 16 like the others, which neither model has.
        "dinov2": (42 * 42 - 16 * 16) * 768 + 3 * (16 * 16 - 14 * 14) * 768,
        "dermino": (42 * 42 - 16 * 16) * 768 + 3 * (16 * 16 - 14 * 14) * 768,
        # Tables of relative positions of four global blocks, two each, for 1024 pixels.
        "lvm-med": 4 * 2 * (127 - 27) * 64,
        "panderm": grid * 1024 - 24 * 1024,  # keys have no bias
    }
    rows = {name: row for name, row in named_encoders().items() if row.paper}
    assert rows.keys() == differences.keys()
    for name, row in rows.items():
        assert row.paper is not None
        assert row.parameters + differences[name] == row.paper.parameters, name


def test_names_files_and_aliases_are_told_apart(tmp_path: Path) -> None:
    for spec, alias, what, file in (
        ("panderm=a/b.pth", "panderm", "panderm", "a/b.pth"),
        ("mine=panderm=a/b.pth", "mine", "panderm", "a/b.pth"),
        ("mine=panderm", "mine", "panderm", None),
        ("dinov2=clip", "dinov2", "clip", None),
        ("clip=timm:resnet18", "clip", "timm:resnet18", None),
        ("timm:resnet18=a.pth", "resnet18", "timm:resnet18", "a.pth"),
        ("mine=open_clip:ViT-B-16=a.pt", "mine", "open_clip:ViT-B-16", "a.pt"),
        ("mine=runs/x", "mine", "runs/x", None),
    ):
        parsed = parse_spec(spec)
        assert (parsed.alias, parsed.what, parsed.file) == (alias, what, file)
    odd = tmp_path / "a=b.pth"
    odd.touch()
    assert parse_spec(f"panderm={odd}").file == str(odd)
    assert parse_spec(str(odd)).what == str(odd)


@pytest.mark.parametrize("gated", [False, True])
def test_hubs_that_cannot_be_reached_or_refuse(
    gated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    import timm
    from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError

    create = timm.create_model

    def refuse(*names: Any, **options: Any) -> Any:
        if options.get("pretrained") is False:
            return create(*names, **options)
        error = GatedRepoError.__new__(GatedRepoError) if gated else LocalEntryNotFoundError("No.")
        raise OSError("no connection") from error

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse)
    monkeypatch.setattr(timm, "create_model", refuse)
    for name in ("medimageinsight", "dinov3"):
        address = named_encoders()[name].address
        with pytest.raises(UserError, match=f"'{name}' could not be fetched") as caught:
            load_encoder(name)
        assert address in caught.value.remedy
        assert f"{name}=FILE" in caught.value.remedy
        assert ("hf auth login" in caught.value.remedy) is gated
    for name in ("panderm", "lvm-med", "dermino"):
        with pytest.raises(UserError, match=rf"(?s)'{name}' cannot be .*drive.google.com.*=FILE"):
            load_encoder(name)
    for name in ("random:clip=a.pth", "hf:x/y=a.pth"):
        with pytest.raises(UserError, match="takes no file"):
            load_encoder(name)
    with pytest.raises(UserError, match="Did you mean 'biomedclip'"):
        load_encoder("biomed-clip")
