"""Files in their publishers' layouts give the features of the reference implementations."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

from dermino.errors import UserError
from dermino.models.encoder import Encoder
from dermino.models.load import load_encoder
from dermino.models.named import named_encoders

EXACT = {"atol": 1e-5, "rtol": 1e-5}
TINY = {"embed_dim": 64, "depth": 2, "num_heads": 2}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def shrink(monkeypatch: pytest.MonkeyPatch, name: str, size: int = 0, **args: Any) -> None:
    """Give a row of the table a small model, everything else as published."""
    row = named_encoders()[name]
    changed: dict[str, Any] = {"model_args": {**row.model_args, **args}}
    if size:
        changed |= {"image_size": size, "resize_size": size}
    monkeypatch.setitem(named_encoders(), name, row.model_copy(update=changed))


def randomise(model: nn.Module) -> nn.Module:
    """Leave no weight at a value that would hide a mistake: zero, one, or equal ones."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def pictures(encoder: Encoder) -> tuple[torch.Tensor, torch.Tensor]:
    """Return uint8 images and what the encoder normalises them to."""
    side = encoder.preprocess.image_size
    images = torch.randint(0, 256, (2, 3, side, side), dtype=torch.uint8)
    return images, encoder.preprocess.normalise(images)


class PanDerm(nn.Module):
    """CAE v2's encoder written out plainly, with the keys of its checkpoints."""

    def __init__(self, dim: int = 64, depth: int = 2, heads: int = 2) -> None:
        super().__init__()
        self.heads = heads
        weights: dict[str, tuple[int, ...]] = {
            "cls_token": (1, 1, dim),
            "pos_embed": (1, 197, dim),
            "patch_embed.proj.weight": (dim, 3, 16, 16),
            "patch_embed.proj.bias": (dim,),
            "norm.weight": (dim,),
            "norm.bias": (dim,),
        }
        for i in range(depth):
            b = f"blocks.{i}."
            for name in ("norm1", "norm2"):
                weights |= {f"{b}{name}.weight": (dim,), f"{b}{name}.bias": (dim,)}
            weights |= {b + n: (dim,) for n in ("gamma_1", "gamma_2", "attn.q_bias", "attn.v_bias")}
            weights |= {b + "attn.qkv.weight": (3 * dim, dim), b + "attn.proj.weight": (dim, dim)}
            weights |= {b + "attn.proj.bias": (dim,), b + "mlp.fc1.weight": (4 * dim, dim)}
            weights |= {b + "mlp.fc1.bias": (4 * dim,), b + "mlp.fc2.weight": (dim, 4 * dim)}
            weights |= {b + "mlp.fc2.bias": (dim,)}
        self.depth = depth
        self.state = {key: torch.randn(shape) * 0.2 for key, shape in weights.items()}

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        w = self.state
        x = F.conv2d(pixels, w["patch_embed.proj.weight"], w["patch_embed.proj.bias"], stride=16)
        x = torch.cat([w["cls_token"].expand(len(x), -1, -1), x.flatten(2).transpose(1, 2)], 1)
        x = x + w["pos_embed"]
        for i in range(self.depth):
            b = f"blocks.{i}."
            x = x + w[b + "gamma_1"] * self._attention(self._norm(x, b + "norm1"), b + "attn.")
            hidden = F.linear(
                self._norm(x, b + "norm2"), w[b + "mlp.fc1.weight"], w[b + "mlp.fc1.bias"]
            )
            hidden = F.linear(F.gelu(hidden), w[b + "mlp.fc2.weight"], w[b + "mlp.fc2.bias"])
            x = x + w[b + "gamma_2"] * hidden
        return self._norm(x, "norm")[:, 0]

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        weight = self.state[name + ".weight"]
        return F.layer_norm(x, weight.shape, weight, self.state[name + ".bias"], 1e-6)

    def _attention(self, x: torch.Tensor, name: str) -> torch.Tensor:
        w = self.state
        q, k, v = F.linear(x, w[name + "qkv.weight"]).chunk(3, dim=-1)
        q, v = q + w[name + "q_bias"], v + w[name + "v_bias"]
        split = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        return F.linear(y, w[name + "proj.weight"], w[name + "proj.bias"])


@pytest.mark.parametrize(("name", "prefix"), [("panderm", "encoder."), ("panderm-base", "")])
def test_panderm(name: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shrink(monkeypatch, name, **TINY)
    reference = PanDerm()
    state = {prefix + key: value for key, value in reference.state.items()}
    if prefix:  # Pretraining leaves a decoder and a teacher beside the encoder.
        state |= {"teacher.blocks.0.norm1.weight": torch.zeros(64), "mask_token": torch.zeros(1)}
    torch.save(state, tmp_path / "checkpoint-499.pth")
    encoder = load_encoder(f"{name}={tmp_path / 'checkpoint-499.pth'}")
    images, pixels = pictures(encoder)
    torch.testing.assert_close(encoder.embed(images), reference(pixels), **EXACT)
    assert encoder.name == name
    assert encoder.preprocess.std == (0.228, 0.224, 0.225)
    assert (encoder.preprocess.resize_size, encoder.preprocess.interpolation) == (256, "bilinear")
    del state[prefix + "blocks.1.attn.v_bias"], state[prefix + "norm.weight"]
    torch.save(state, tmp_path / "damaged.pth")
    with pytest.raises(UserError, match=r"2 missing: blocks.1.attn.qkv.bias, norm.weight"):
        load_encoder(f"{name}={tmp_path / 'damaged.pth'}")


def test_panderm_positions_that_a_file_lacks_are_rebuilt_column_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shrink(monkeypatch, "panderm-base", **TINY)
    state = PanDerm().state
    del state["pos_embed"]
    torch.save(state, tmp_path / "without.pth")
    encoder = load_encoder(f"panderm-base={tmp_path / 'without.pth'}")
    column, row = np.divmod(np.arange(196), 14)  # the first coordinate is the slow one
    omega = 1 / 10000 ** (np.arange(16) / 16)
    angles = [np.outer(column, omega), np.outer(row, omega)]
    expected = np.concatenate([f(a) for a in angles for f in (np.sin, np.cos)], axis=1)
    position = encoder.backbone.pos_embed[0].numpy()
    np.testing.assert_allclose(position[1:], expected, atol=1e-5)
    assert not position[0].any()


def test_lvm_med_is_sams_encoder_before_its_neck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.SamVisionConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=224, mlp_dim=256,
        use_abs_pos=False, window_size=7, global_attn_indexes=[1], output_channels=8,
    )  # fmt: skip
    reference = randomise(transformers.SamVisionModel(config))
    renames = {
        r"vision_encoder\.": "",
        r"layers\.": "blocks.",
        r"patch_embed\.projection": "patch_embed.proj",
        r"layer_norm(\d)\.(?=\w+$)": r"norm\1.",
    }
    state = {}
    for key, value in reference.state_dict().items():
        for old, new in renames.items():
            key = re.sub(old, new, key)
        state[key] = value.clone()
    torch.save(state, tmp_path / "lvmmed_vit.pth")
    shrink(monkeypatch, "lvm-med", **TINY, window_size=7, global_attn_indexes=[1])
    encoder = load_encoder(f"lvm-med={tmp_path / 'lvmmed_vit.pth'}")
    images, pixels = pictures(encoder)
    with torch.inference_mode():
        expected = reference(pixels, output_hidden_states=True).hidden_states[-1]
        vector, tokens = encoder.tokens(images)
    torch.testing.assert_close(tokens, expected, **EXACT)
    torch.testing.assert_close(vector, expected.mean((1, 2)), **EXACT)
    assert tokens.shape == (2, 14, 14, 64)
    # Published at 1024 pixels: tables of 127 rows are resized to the 27 that 14 patches need.
    large = {k: torch.rand(127, 32) if "1.attn.rel_pos" in k else v for k, v in state.items()}
    torch.save(large, tmp_path / "large.pth")
    resized = load_encoder(f"lvm-med={tmp_path / 'large.pth'}").backbone.blocks[1].attn.rel_pos_h
    table = large["blocks.1.attn.rel_pos_h"].T[None]
    torch.testing.assert_close(resized.T[None], F.interpolate(table, 27, mode="linear"))


@pytest.mark.parametrize("projected", [False, True])
def test_medimageinsight_is_florences_davit(
    projected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Florence2VisionConfig(
        embed_dim=[16, 24, 32, 48], num_heads=[2] * 4, num_groups=[2] * 4, depths=[1, 1, 2, 1],
        window_size=4, patch_prenorm=[False, True, True, True],
    )  # fmt: skip
    from transformers.models.florence2.modeling_florence2 import Florence2VisionBackbone

    reference = randomise(Florence2VisionBackbone(config))
    norm, projection = randomise(nn.LayerNorm(48)), torch.randn(48, 1024)
    renames = {
        r"convs\.(\d)\.conv": r"convs.\1.proj",
        r"block\.conv(\d)": r"block.conv\1.fn.dw",
        r"spatial_block\.norm1": "spatial_block.window_attn.norm",
        r"channel_block\.norm1": "channel_block.channel_attn.norm",
        r"norm2": "ffn.norm",
        r"_attn\.(qkv|proj)": r"_attn.fn.\1",
        r"ffn\.(fc\d)": r"ffn.fn.net.\1",
    }
    state = {"image_projection": projection, "lang_encoder.ln_final.weight": torch.ones(3)}
    for key, value in reference.state_dict().items():
        for old, new in renames.items():
            key = re.sub(old, new, key)
        state[f"image_encoder.{key}"] = value.clone()
    state |= {f"image_encoder.norms.{k}": v for k, v in norm.state_dict().items()}
    # The publisher's file is safetensors under this ending.
    save_file(state, tmp_path / "medimageinsigt-v1.0.0.pt")
    name = "medimageinsight-projected" if projected else "medimageinsight"
    sizes = {"embed_dims": (16, 24, 32, 48), "num_heads": (2, 2, 2, 2), "depths": (1, 1, 2, 1)}
    assert named_encoders()[name].image_size == 480
    shrink(monkeypatch, name, size=96, window_size=4, **sizes)
    encoder = load_encoder(f"{name}={tmp_path / 'medimageinsigt-v1.0.0.pt'}")
    images, pixels = pictures(encoder)
    with torch.inference_mode():
        last = reference(pixels).last_hidden_state
        vector, tokens = encoder.tokens(images)
        pyramid = encoder.stages(images)
    pooled = norm(last.mean((2, 3)))
    torch.testing.assert_close(vector, pooled @ projection if projected else pooled, **EXACT)
    torch.testing.assert_close(tokens, last.permute(0, 2, 3, 1), **EXACT)
    assert [stage.shape[1:] for stage in pyramid] == [
        (24, 24, 16), (12, 12, 24), (6, 6, 32), (3, 3, 48),
    ]  # fmt: skip
    assert encoder.preprocess.mode == "squash"


def test_resnext_of_torchvision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision = pytest.importorskip("torchvision")
    resnet = torchvision.models.resnet
    reference = resnet.ResNet(resnet.Bottleneck, [1, 1, 1, 1], groups=32, width_per_group=8).eval()
    # Old files of torchvision do not count batches.
    state = {k: v for k, v in reference.state_dict().items() if "num_batches" not in k}
    torch.save(state, tmp_path / "resnext101_32x8d-8ba56ff5.pth")
    shrink(monkeypatch, "resnext101", layers=(1, 1, 1, 1))
    encoder = load_encoder(f"resnext101={tmp_path / 'resnext101_32x8d-8ba56ff5.pth'}")
    images, pixels = pictures(encoder)
    reference.fc = nn.Identity()
    with torch.inference_mode():
        torch.testing.assert_close(encoder.embed(images), reference(pixels), **EXACT)
        assert [s.shape[1:3] for s in encoder.stages(images)] == [
            (56, 56),
            (28, 28),
            (14, 14),
            (7, 7),
        ]
    assert encoder.preprocess.interpolation == "bilinear"


def test_mobilenet_of_torchvision_has_timms_order_under_other_names(tmp_path: Path) -> None:
    torchvision = pytest.importorskip("torchvision")
    reference = torchvision.models.mobilenet_v2().eval()
    for module in reference.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    torch.save(reference.state_dict(), tmp_path / "mobilenet_v2.pth")
    encoder = load_encoder(f"timm:mobilenetv2_100={tmp_path / 'mobilenet_v2.pth'}", image_size=64)
    images, pixels = pictures(encoder)
    with torch.inference_mode():
        last = reference.features(pixels)
        torch.testing.assert_close(encoder.embed(images), last.mean((2, 3)), **EXACT)
    assert (encoder.name, encoder.embed_dim) == ("mobilenetv2_100", 1280)
    with pytest.raises(UserError, match=r"(?s)missing: blocks.*unexpected: features"):
        load_encoder(f"timm:mobilenetv2_050={tmp_path / 'mobilenet_v2.pth'}")


def test_dinov3_of_its_publisher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.DINOv3ViTConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256,
        image_size=64, patch_size=16, num_register_tokens=4, query_bias=False, value_bias=False,
    )  # fmt: skip
    reference = randomise(transformers.DINOv3ViTModel(config))
    theirs = {re.sub(r"^model\.", "", k): v for k, v in reference.state_dict().items()}
    renames = {
        "embeddings.cls_token": "cls_token",
        "embeddings.register_tokens": "storage_tokens",
        "embeddings.mask_token": "mask_token",
        "embeddings.patch_embeddings": "patch_embed.proj",
        "layer.": "blocks.",
        "attention.o_proj": "attn.proj",
        "layer_scale1.lambda1": "ls1.gamma",
        "layer_scale2.lambda1": "ls2.gamma",
        "mlp.up_proj": "mlp.fc1",
        "mlp.down_proj": "mlp.fc2",
    }
    state = {"rope_embed.periods": torch.ones(8)}
    for key, value in theirs.items():
        if "rope" in key or re.search(r"attention\.[qkv]_proj", key):
            continue
        for old, new in renames.items():
            key = key.replace(old, new)
        state[key] = value.clone()
    for i in range(2):
        parts = [theirs[f"layer.{i}.attention.{part}_proj.weight"] for part in "qkv"]
        state[f"blocks.{i}.attn.qkv.weight"] = torch.cat(parts)
        state[f"blocks.{i}.attn.qkv.bias"] = torch.zeros(192)
    torch.save(state, tmp_path / "dinov3.pth")
    shrink(monkeypatch, "dinov3", size=64, **TINY)
    encoder = load_encoder(f"dinov3={tmp_path / 'dinov3.pth'}")
    images, pixels = pictures(encoder)
    with torch.inference_mode():
        expected = reference(pixels).last_hidden_state
        vector, tokens = encoder.tokens(images)
    torch.testing.assert_close(vector, expected[:, 0], **EXACT)
    torch.testing.assert_close(tokens.flatten(1, 2), expected[:, 5:], **EXACT)
    state["blocks.0.attn.qkv.bias"][0] = 1.0
    torch.save(state, tmp_path / "biased.pth")
    with pytest.raises(UserError, match="1 biases that this model lacks"):
        load_encoder(f"dinov3={tmp_path / 'biased.pth'}")


def test_vit_base_and_dinov2_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("vit-base", 64), ("dinov2", 56), ("dermino", 56)):
        shrink(monkeypatch, name, size=size, **TINY)
        row = named_encoders()[name]
        reference = randomise(
            timm.create_model(row.architecture, num_classes=5, img_size=2 * size, **row.model_args)
        )
        torch.save({"teacher": reference.state_dict()}, tmp_path / "weights.pth")
        encoder = load_encoder(f"mine={name}={tmp_path / 'weights.pth'}", image_size=2 * size)
        images, pixels = pictures(encoder)
        with torch.inference_mode():
            expected = reference.forward_features(pixels)[:, 0]
        torch.testing.assert_close(encoder.embed(images), expected, **EXACT)
        assert encoder.name == "mine"
