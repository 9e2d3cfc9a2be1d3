"""The table of named encoders, ``named.yaml``: what is published about each, as data."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml
from pydantic import Field

from dermino.config import Config

NORMALISATIONS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    # PanDerm's authors evaluate with a red deviation of .228; other values change its features.
    "panderm": ((0.485, 0.456, 0.406), (0.228, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "openai": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}


class PaperCount(Config):
    """The row of Supplementary Table 1: the model's name there and its parameters."""

    name: str
    parameters: int


class NamedEncoder(Config):
    """One row of the table.

    ``architecture`` and ``model_args`` are timm's, or open_clip's where ``library`` says so.
    ``weights`` is ``timm:NAME.TAG``, ``hub:ORGANISATION/REPOSITORY/FILE`` or an open_clip address;
    null where the publisher's file can only be had by hand, from ``address``, under the name
    ``file``. ``projection`` is the width of the space shared with texts where features are
    projected into it. ``final_norm`` false leaves the last norm out. ``resize_size`` is the shorter
    side before the centre crop, by default ``image_size``.
    """

    title: str
    library: Literal["timm", "open_clip"] = "timm"
    architecture: str
    model_args: Mapping[str, Any] = Field(default_factory=dict)
    final_norm: bool = True
    projection: int | None = None
    weights: str | None = None
    address: str
    file: str = "the weights"
    licence: str
    feature: str
    embed_dim: int
    parameters: int
    image_size: int = 224
    resize_size: int | None = None
    mode: Literal["crop", "squash"] = "crop"
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    normalisation: Literal["imagenet", "panderm", "half", "openai"] = "imagenet"
    notes: str = ""
    paper: PaperCount | None = None


@cache
def named_encoders() -> dict[str, NamedEncoder]:
    """Return the rows of the table by name, in its order."""
    text = files("dermino.models").joinpath("named.yaml").read_text(encoding="utf-8")
    return {name: NamedEncoder.model_validate(row) for name, row in yaml.safe_load(text).items()}


def describe_named() -> list[dict[str, Any]]:
    """Return name, input, feature, size, licence and source of every named encoder."""
    return [
        {
            "name": name,
            "title": row.title,
            "image_size": row.image_size,
            "embed_dim": row.embed_dim,
            "parameters": row.parameters,
            "feature": row.feature,
            "normalisation": row.normalisation,
            "licence": row.licence,
            "weights": row.weights or "by hand",
            "address": row.address,
            "notes": row.notes,
        }
        for name, row in named_encoders().items()
    ]
