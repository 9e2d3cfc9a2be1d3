"""Weights from files, whatever they are called there, into a timm model."""

from __future__ import annotations

import pickle
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from dermino.errors import UserError
from dermino.models.encoder_file import FILE_NAME
from dermino.models.huggingface import MARKER, State, from_huggingface
from dermino.models.layouts import to_timm
from dermino.models.weight_names import compressed
from dermino.progress import console

# Trained by DINOv2 but not part of the encoder; pretraining takes it up (pretrain.backbone).
IGNORED = frozenset({"mask_token"})
_WRAPPERS = ("teacher", "model", "state_dict")
_PREFIXES = ("module.", "student.", "backbone.")
# They count steps of training and change no feature; old files lack them.
_COUNTERS = ("num_batches_tracked", "n_averaged")
_CHUNKED_BLOCK = re.compile(r"^blocks\.\d+\.(\d+\.)")
_HUGGINGFACE_FILE = "model.safetensors"
_REMEDY = "Give a .safetensors file, or a .pth that holds tensors only."


def weights_file(path: str | Path) -> Path:
    """Return the weights of a run folder, of a Hugging Face folder, or the file itself.

    Raises
    ------
    UserError
        If there is none.
    """
    path = Path(path)
    if path.is_dir():
        for name in (FILE_NAME, _HUGGINGFACE_FILE):
            if (path / name).is_file():
                return path / name
        raise UserError(
            f"The folder '{path}' holds no {FILE_NAME}.",
            "Is it a run of dermino pretrain that has finished?",
        )
    if not path.is_file():
        raise UserError(f"There is no weights file '{path}'.", "Check the path.")
    return path


def is_safetensors(path: Path) -> bool:
    """Tell by name or content; MedImageInsight's safetensors are called ``.pt``."""
    with path.open("rb") as file:
        head = file.read(9)
    # Eight bytes give the length of a JSON header, which follows.
    return path.suffix == ".safetensors" or (
        head[8:] == b"{" and int.from_bytes(head[:8], "little") < path.stat().st_size
    )


def read_state(path: str | Path) -> State:
    """Read a flat state dict of safetensors, or of ``.pth``/``.pt`` without unpickling code.

    A DINOv2 or DermINO ``teacher_checkpoint.pth`` is unwrapped: its ``teacher`` entry, without the
    ``backbone.`` prefix and without the heads, which are named on the console. Of a student and a
    teacher side by side it is the teacher. Hugging Face's names become DINOv2's.

    Raises
    ------
    UserError
        If the file holds no weights, or some beside the backbone that are no head's.
    """
    path = weights_file(path)
    try:
        if is_safetensors(path):
            loaded = load_file(path)
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"'{path}' is not a file of weights, or holds Python objects, which are never loaded: "
            "they could run code.",
            _REMEDY,
        ) from error
    except Exception as error:  # A damaged file makes the readers raise anything.
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"'{path}' cannot be read as weights: {reason}", _REMEDY) from error
    return _backbone_only(_unwrap(loaded, path), path)


def _unwrap(loaded: Any, path: Path) -> State:
    while isinstance(loaded, dict):
        wrapper = next((key for key in _WRAPPERS if isinstance(loaded.get(key), dict)), None)
        if wrapper is None:
            break
        loaded = loaded[wrapper]
    if not isinstance(loaded, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in loaded.items()
    ):
        raise UserError(f"'{path}' holds no state dict.", "It must map names to tensors.")
    return loaded


def _backbone_only(state: State, path: Path) -> State:
    """Strip wrappers' prefixes; where some keys begin with ``backbone.``, leave heads out."""
    if _under("student.", state) and (teacher := _under("teacher.", state)):
        _account_for({key for key in state if not key.startswith(("student.", "teacher."))}, path)
        state = teacher
    for prefix in _PREFIXES:
        if inside := _under(prefix, state):
            _account_for({key for key in state if not key.startswith(prefix)}, path)
            state = inside
    if any(key.endswith(MARKER) for key in state):
        return from_huggingface(state)
    if "patch_embed.proj.weight" not in state:
        return state
    # DINOv2 groups the blocks of models trained with FSDP; the second number is the block's.
    return {_CHUNKED_BLOCK.sub(r"blocks.\1", key): value for key, value in state.items()}


def _under(prefix: str, state: State) -> State:
    return {k.removeprefix(prefix): value for k, value in state.items() if k.startswith(prefix)}


def _account_for(left_out: Collection[str], origin: str | Path) -> None:
    """Name the heads that are left out; refuse what is neither a head nor the backbone."""
    heads = {key for key in left_out if "head" in key.partition(".")[0]}
    unknown = sorted(key for key in set(left_out) - heads if not key.endswith(_COUNTERS))
    if unknown:
        raise UserError(
            f"'{origin}' holds weights that belong neither to its backbone nor to a head.",
            f"{len(unknown)} unexpected: {', '.join(compressed(unknown))}",
        )
    _say_left_out(heads, origin)


def _say_left_out(heads: Collection[str], origin: str | Path) -> None:
    if heads:
        names = ", ".join(sorted({key.partition(".")[0] for key in heads}))
        plural = "s" if len(heads) > 1 else ""
        console.print(
            f"'{origin}': left out: {len(heads)} weight{plural} of heads ({names}).", soft_wrap=True
        )


def load_into(model: nn.Module, state: State, origin: str) -> None:
    """Copy weights into a timm model, resizing what depends on the image size.

    Parameters
    ----------
    model:
        The target, of any image size. Where it has no classifier, the file's is left out, which
        the console says.
    state:
        Names as in the publisher's file or in timm.
    origin:
        Where the weights come from, for messages.

    Raises
    ------
    UserError
        Listing every missing, unexpected or misshapen weight; nothing is skipped silently.
    """
    state = {key: value.float() for key, value in state.items()}
    expected = model.state_dict()
    _check_shape(model, state, origin)
    try:
        converted = to_timm(state, model)
    except UserError:
        raise
    except Exception as error:  # timm resizes and renames without looking at shapes first.
        raise UserError(f"The weights of '{origin}' do not fit the model: {error}.") from error
    classifiers = _classifiers(model, expected)
    left_out = {key for key in converted if key.startswith(classifiers)}
    converted = {key: value for key, value in converted.items() if key not in left_out}
    missing = sorted(key for key in set(expected) - set(converted) if not key.endswith(_COUNTERS))
    unexpected = sorted(set(converted) - set(expected) - IGNORED)
    misshapen = [
        f"{key} {tuple(converted[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in sorted(set(expected) & set(converted))
        if converted[key].shape != expected[key].shape
    ]
    if missing or unexpected or misshapen:
        raise UserError(
            f"The weights of '{origin}' do not fit the model.",
            "\n".join(
                f"{len(keys)} {title}: {', '.join(compressed(keys))}"
                for title, keys in (
                    ("missing", missing),
                    ("unexpected", unexpected),
                    ("of another shape", misshapen),
                )
                if keys
            ),
        )
    _say_left_out(left_out, origin)
    model.load_state_dict({key: converted.get(key, value) for key, value in expected.items()})


def _classifiers(model: Any, expected: State) -> tuple[str, ...]:
    """Return what the keys of classifiers begin with that the model has been built without."""
    names = model.pretrained_cfg.get("classifier") or ()
    prefixes = [f"{name}." for name in ((names,) if isinstance(names, str) else names)]
    return tuple(p for p in prefixes if not any(key.startswith(p) for key in expected))


def _check_shape(model: Any, state: State, origin: str) -> None:
    """Refuse another width, patch size or number of registers.

    timm would resize across the first two without a word, and stumble over positions at the last.
    """
    if not isinstance(model, VisionTransformer):
        return
    register = _ending(state, "reg_token", "register_tokens")
    given, asked = (0 if r is None else r.shape[-2] for r in (register, model.reg_token))
    if given != asked:
        raise UserError(
            f"The weights of '{origin}' have {given} register tokens, the model has {asked}.",
            _remedy_for_registers(str(model.pretrained_cfg.get("architecture")), given, asked),
        )
    position = _ending(state, "pos_embed")
    patch = _ending(state, "patch_embed.proj.weight", "visual.conv1.weight")
    if position is not None and position.ndim == 3 and position.shape[-1] != model.embed_dim:
        difference = f"are {position.shape[-1]} wide, the model is {model.embed_dim} wide"
    elif patch is not None and patch.shape[-2:] != model.patch_embed.proj.weight.shape[-2:]:
        expected = model.patch_embed.patch_size[0]
        difference = f"have patches of {patch.shape[-1]} px, the model of {expected} px"
    else:
        return
    raise UserError(
        f"The weights of '{origin}' {difference}.",
        "Choose the architecture that the weights were made for.",
    )


def _remedy_for_registers(architecture: str, given: int, asked: int) -> str:
    """Name the architecture with the registers that the weights have, if timm has one."""
    plain = architecture.replace(f"_reg{asked}", "")
    suited = plain.replace("_dinov2", f"_reg{given}_dinov2") if given else plain
    if suited != architecture and timm.is_model(suited):
        return f"Use the architecture {suited}, or weights that were made for {architecture}."
    return "Choose the architecture that the weights were made for."


def _ending(state: State, *endings: str) -> torch.Tensor | None:
    return next((value for key, value in state.items() if key.endswith(endings)), None)


def infer_architecture(state: State, origin: str) -> str:
    """Tell which DINOv2 vision transformer of timm a nameless state dict belongs to.

    Raises
    ------
    UserError
        If the shapes fit none of them.
    """
    names = {384: "small", 768: "base", 1024: "large", 1536: "giant"}
    patch = state.get("patch_embed.proj.weight")
    if patch is not None and patch.ndim == 4 and "blocks.0.ls1.gamma" in state:
        width, patch_size = patch.shape[0], patch.shape[-1]
        if patch_size == 14 and width in names:
            registers = "_reg4" if {"register_tokens", "reg_token"} & set(state) else ""
            return f"vit_{names[width]}_patch14{registers}_dinov2"
    raise UserError(
        f"'{origin}' does not say which architecture it holds, and it is not a DINOv2 one.",
        "Say which: --encoder NAME=FILE, where NAME is one that dermino encoders lists, or "
        "timm:NAME=FILE.",
    )
