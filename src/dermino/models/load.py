"""Encoders by name: the same words on every command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from torch import nn

from dermino.errors import UserError, unknown
from dermino.models.encoder import Encoder
from dermino.models.encoder_file import FILE_NAME, EncoderFile
from dermino.models.huggingface import State, download
from dermino.models.preprocess import Preprocess
from dermino.models.weights import infer_architecture, load_into, read_state, weights_file

SPEC_HELP = (
    "A run folder, a weights file (.safetensors, .pth), timm:NAME (random:NAME for untrained "
    "weights) or hf:ID of a DINOv2 model. Put NAME= in front to choose how results call it."
)


def load_encoder(
    spec: str,
    image_size: int | None = None,
    device: str | torch.device = "cpu",
    last_layer: bool = False,
) -> Encoder:
    """Build an encoder from its name.

    Parameters
    ----------
    spec:
        A run folder, a file, ``timm:NAME``, ``random:NAME``, ``hf:ID``; ``alias=spec`` chooses its
        name.
    image_size:
        Side of the input in pixels, where it should differ from the encoder's own.
    device:
        Where to put it.
    last_layer:
        Keep the last linear layer of a timm model as ``backbone.head``, which no feature passes:
        of CLIP towers it is the projection into the space shared with texts.

    Raises
    ------
    UserError
        If nothing of that name exists, or its weights do not fit.
    """
    alias, address = split_alias(spec)
    scheme, _, rest = address.partition(":")
    if scheme in {"timm", "random"} and rest:
        encoder = _from_timm(alias, rest, image_size, scheme == "timm", last_layer)
    elif scheme == "hf" and rest:
        encoder = _from_huggingface(alias, rest, image_size)
    else:
        encoder = _from_path(alias, address, image_size)
    return encoder.to(device)


def split_alias(spec: str) -> tuple[str, str]:
    """Split ``alias=spec``; the alias of a plain spec is its file or folder name."""
    alias, separator, address = spec.partition("=")
    if separator and alias and not Path(spec).exists():
        return alias, address
    path = Path(spec)
    if path.name == FILE_NAME:
        path = path.parent
    return (path.stem if path.is_file() else path.name) or spec, spec


def create_backbone(architecture: str, **model_args: Any) -> nn.Module:
    """Create an untrained timm model, without classifier unless asked otherwise.

    An unknown name gives the nearest.
    """
    if not timm.is_model(architecture):
        raise unknown("timm model", architecture, timm.list_models())
    try:
        return timm.create_model(architecture, pretrained=False, **{"num_classes": 0, **model_args})
    except Exception as error:  # Whatever a model's own constructor says of the arguments.
        raise UserError(
            f"timm cannot build '{architecture}' with {model_args}: {error}.",
            "Check the arguments against timm's documentation of the model.",
        ) from error


def _from_timm(
    alias: str, name: str, image_size: int | None, pretrained: bool, last_layer: bool
) -> Encoder:
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise unknown("timm model", architecture, timm.list_models())
    # To timm None is a model's own number of classes.
    options: dict[str, Any] = {"num_classes": None if last_layer else 0}
    if image_size and architecture.startswith("vit_"):
        options["img_size"] = image_size
    if pretrained:
        try:
            backbone = timm.create_model(name, pretrained=True, **options)
        except Exception as error:  # the hub client raises many kinds, none of them ours
            reason = str(error).splitlines()[0]
            raise UserError(
                f"The weights of 'timm:{name}' could not be fetched: {reason}",
                "Check the connection and the name, or give a local weights file.",
            ) from error
    else:
        torch.manual_seed(0)
        backbone = create_backbone(architecture, **options)
    data = resolve_model_data_config(backbone)
    size = image_size or data["input_size"][-1]
    preprocess = Preprocess(
        image_size=size,
        resize_size=round(size / data["crop_pct"]),
        mode="squash" if data["crop_mode"] == "squash" else "crop",
        interpolation=data["interpolation"],
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
    )
    seen: dict[str, Any] | None = None if pretrained else {}
    return Encoder(alias, backbone, preprocess, architecture, seen)


def _from_huggingface(alias: str, model_id: str, image_size: int | None) -> Encoder:
    return _from_state(alias, download(model_id), f"hf:{model_id}", image_size, None)


def _from_path(alias: str, address: str, image_size: int | None) -> Encoder:
    if not Path(address).exists():
        raise UserError(f"There is no encoder '{address}'.", SPEC_HELP)
    path = weights_file(address)
    described = EncoderFile.read(path) if path.suffix == ".safetensors" else None
    return _from_state(alias, read_state(path), str(path), image_size, described)


def _from_state(
    alias: str,
    state: State,
    origin: str,
    image_size: int | None,
    described: EncoderFile | None,
) -> Encoder:
    """Build the model that weights belong to, which they or their shapes tell, and fill it."""
    if described is None:
        size = image_size or 224
        architecture = infer_architecture(state, origin)
        described = EncoderFile(architecture, {"img_size": size}, Preprocess.for_size(size))
    elif image_size and image_size != described.preprocess.image_size:
        described = EncoderFile(
            described.architecture,
            {**described.model_args, "img_size": image_size},
            Preprocess.for_size(image_size),
            described.seen,
        )
    backbone = create_backbone(described.architecture, **described.model_args)
    load_into(backbone, state, origin)
    return Encoder(alias, backbone, described.preprocess, described.architecture, described.seen)
