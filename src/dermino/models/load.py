"""Encoders by name: the same words on every command line."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from timm.layers import to_2tuple
from torch import nn

from dermino.errors import UserError, unknown
from dermino.models.encoder import Encoder
from dermino.models.encoder_file import FILE_NAME, EncoderFile
from dermino.models.hub import download_file, fetch
from dermino.models.huggingface import State, from_huggingface, is_dinov2
from dermino.models.named import NORMALISATIONS, NamedEncoder, named_encoders
from dermino.models.open_clip_tower import CONFIG_FILE, load_open_clip
from dermino.models.preprocess import Preprocess
from dermino.models.spec import SPEC_HELP, parse_spec, scheme_of
from dermino.models.transformers_tower import TransformersTower, load_transformers
from dermino.models.weights import (
    infer_architecture,
    is_safetensors,
    load_into,
    read_state,
    weights_file,
)


def split_alias(spec: str) -> tuple[str, str]:
    """Return the alias of an encoder's name and the path or address it stands for."""
    parsed = parse_spec(spec)
    return parsed.alias, parsed.file or parsed.what


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
        A run folder, a file, a name of :func:`dermino.models.named.named_encoders`,
        ``timm:NAME``, ``hf:ID``, ``open_clip:NAME/TAG`` or ``random:NAME``. ``WHAT=FILE`` reads a
        local file; ``ALIAS=`` in front chooses its name. A file that dermino wrote says itself what
        it is.
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
    parsed = parse_spec(spec)
    alias, file = parsed.alias, parsed.file
    scheme, rest = scheme_of(parsed.what), parsed.what.partition(":")[2]
    if file is not None and scheme in {"random", "hf"}:
        raise UserError(f"'{scheme}:' takes no file, but '{spec}' names one.", SPEC_HELP)
    described = _described(file) if file is not None else None
    if file is not None and described is not None:
        encoder = _from_path(alias, file, image_size)
    elif parsed.what in named_encoders():
        encoder = _from_named(alias, parsed.what, image_size, file)
    elif scheme == "random" and rest in named_encoders():
        encoder = _from_named(alias, rest, image_size, None, trained=False)
    elif scheme in {"timm", "random"}:
        encoder = _from_timm(alias, rest, image_size, scheme == "timm", last_layer, file)
    elif scheme == "open_clip":
        tower, preprocess = load_open_clip(rest, file)
        encoder = _from_tower(alias, tower, preprocess, parsed.what, image_size)
    elif scheme == "hf":
        encoder = _from_huggingface(alias, rest, image_size)
    else:
        encoder = _from_path(alias, parsed.what, image_size)
    return encoder.to(device)


def create_backbone(architecture: str, **model_args: Any) -> nn.Module:
    """Create an untrained timm model, without classifier unless asked otherwise.

    An unknown name gives the nearest. A tag (``NAME.TAG``) chooses the preprocessing it records.
    """
    if not timm.is_model(architecture.partition(".")[0]):
        raise unknown("timm model", architecture, timm.list_models())
    try:
        return timm.create_model(architecture, pretrained=False, **{"num_classes": 0, **model_args})
    except Exception as error:  # Whatever a model's own constructor says of the arguments.
        raise UserError(
            f"timm cannot build '{architecture}' with {model_args}: {error}.",
            "Check the arguments against timm's documentation of the model.",
        ) from error


def _from_named(
    alias: str, name: str, image_size: int | None, file: str | None, trained: bool = True
) -> Encoder:
    row = named_encoders()[name]
    preprocess = _stated_preprocess(row)
    what = f"'{name}'"
    by_hand = (
        f"Download {row.file} by hand from {row.address} (licence: {row.licence}) and give it as "
        f"{name}=FILE."
    )
    if not trained:
        torch.manual_seed(0)
    seen: dict[str, Any] | None = None if trained else {}
    projected = row.projection is not None
    if row.library == "open_clip":
        address = row.architecture if file or not trained else str(row.weights)
        if file is not None and (Path(file) / CONFIG_FILE).is_file():
            address, file = file, None
        tower, told = load_open_clip(address, file, projected, trained, by_hand)
        preprocess = preprocess if address == row.architecture else told
        return _from_tower(alias, tower, preprocess, row.architecture, image_size, seen)
    origin, _, address = (row.weights or "").partition(":")
    if trained and file is None and origin == "hub":
        file = str(download_file(what, address, by_hand))
    if trained and file is None and origin != "timm":
        raise UserError(f"The weights of {what} cannot be downloaded by a program.", by_hand)
    args = {"num_classes": row.projection or 0, **row.model_args}
    args |= _size_args(row.architecture, image_size or row.image_size)
    if trained and file is None:
        backbone = _published(what, address, args, by_hand)
    else:
        backbone = create_backbone(row.architecture, **args)
    if not row.final_norm:
        backbone.prune_intermediate_layers(prune_norm=True, prune_head=False)
    if file is not None:
        load_into(backbone, read_state(file), file)
    if image_size:
        preprocess = preprocess.with_size(image_size)
    return Encoder(alias, backbone, preprocess, row.architecture, seen, row.model_args, projected)


def _published(what: str, name: str, args: dict[str, Any], by_hand: str) -> Any:
    """Fetch a model that timm publishes; positions of DINOv2 are resized by ``load_into``."""
    own = {key: value for key, value in args.items() if key != "img_size"}
    if own == args or "dinov2" not in name:
        return fetch(what, lambda: timm.create_model(name, pretrained=True, **args), by_hand)
    whole = fetch(what, lambda: timm.create_model(name, pretrained=True, **own), by_hand)
    backbone = create_backbone(name, **args)
    load_into(backbone, whole.state_dict(), what)
    return backbone


def _stated_preprocess(row: NamedEncoder) -> Preprocess:
    mean, std = NORMALISATIONS[row.normalisation]
    size = row.image_size
    return Preprocess(size, row.resize_size or size, row.mode, row.interpolation, mean, std)


def _size_args(architecture: str, image_size: int | None) -> dict[str, int]:
    """Return timm's argument for another input size, for models that have to be told."""
    if image_size is None:
        return {}
    with torch.device("meta"):
        backbone: Any = create_backbone(architecture)
    patch = getattr(getattr(backbone, "patch_embed", None), "patch_size", 1)
    if image_size < to_2tuple(patch)[0]:
        raise UserError(
            f"{image_size} pixels are less than one patch of '{architecture}'.",
            f"Use --image-size {to_2tuple(patch)[0]} or more.",
        )
    told = "img_size" in inspect.signature(type(backbone).__init__).parameters
    return {"img_size": image_size} if told else {}


def _from_timm(
    alias: str,
    name: str,
    image_size: int | None,
    pretrained: bool,
    last_layer: bool,
    file: str | None = None,
) -> Encoder:
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        raise unknown("timm model", architecture, timm.list_models())
    # To timm None is a model's own number of classes.
    options: dict[str, Any] = {"num_classes": None if last_layer else 0}
    options |= _size_args(architecture, image_size)
    if pretrained and file is None:
        backbone = fetch(
            f"'timm:{name}'",
            lambda: timm.create_model(name, pretrained=True, **options),
            f"Check the connection and the name, or give a local file: timm:{name}=FILE.",
        )
    else:
        torch.manual_seed(0)
        backbone = create_backbone(name, **options)
    if file is not None:
        load_into(backbone, read_state(file), file)
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
    if model_id.startswith("timm/"):
        return _from_timm(alias, model_id.removeprefix("timm/"), image_size, True, False)
    model, preprocess = load_transformers(model_id)
    if is_dinov2(model):
        state = from_huggingface(model.state_dict())
        return _from_state(alias, state, f"hf:{model_id}", image_size, None)
    if preprocess is None:
        raise UserError(
            f"'hf:{model_id}' does not say how its images are to be normalised.",
            "A preprocessor_config.json with image_mean, image_std and size belongs beside it.",
        )
    tower = TransformersTower(model)
    return _from_tower(alias, tower, preprocess, f"hf:{model.config.model_type}", image_size)


def _from_tower(
    alias: str,
    tower: nn.Module,
    preprocess: Preprocess,
    what: str,
    image_size: int | None,
    seen: dict[str, Any] | None = None,
) -> Encoder:
    if image_size and image_size != preprocess.image_size:
        if not isinstance(tower, TransformersTower):
            raise UserError(
                f"'{what}' takes images of {preprocess.image_size} pixels only.",
                "Leave out --image-size.",
            )
        preprocess = preprocess.with_size(image_size)
    return Encoder(alias, tower, preprocess, what, seen)


def _from_path(alias: str, address: str, image_size: int | None) -> Encoder:
    path = Path(address)
    if not path.exists():
        if path.suffix or path.parent != Path("."):
            raise UserError(f"There is no encoder '{address}'.", SPEC_HELP)
        raise unknown("encoder", address, named_encoders())
    if (path / CONFIG_FILE).is_file():
        tower, preprocess = load_open_clip(address)
        return _from_tower(alias, tower, preprocess, f"open_clip:{path.name}", image_size)
    if (path / "config.json").is_file() and not (path / FILE_NAME).is_file():
        return _from_huggingface(alias, address, image_size)
    path = weights_file(address)
    return _from_state(alias, read_state(path), str(path), image_size, _described(path))


def _described(path: str | Path) -> EncoderFile | None:
    """Read what a file written by dermino says of itself; None for other files."""
    if (Path(path) / CONFIG_FILE).is_file():
        return None
    file = weights_file(path)
    return EncoderFile.read(file) if is_safetensors(file) else None


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
            described.preprocess.with_size(image_size),
            described.seen,
        )
    backbone = create_backbone(described.architecture, **described.model_args)
    load_into(backbone, state, origin)
    return Encoder(
        alias,
        backbone,
        described.preprocess,
        described.architecture,
        described.seen,
        described.model_args,
    )
