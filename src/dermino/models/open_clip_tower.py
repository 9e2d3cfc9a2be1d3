"""Image towers of open_clip behind timm's interface."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from dermino.errors import UserError, unknown
from dermino.models.hub import fetch
from dermino.models.pooled_tower import PooledTower
from dermino.models.preprocess import Preprocess
from dermino.models.weights import read_state

CONFIG_FILE = "open_clip_config.json"
_REPOSITORY = "hf-hub:"
_VISUAL = "visual."
_BY_HAND = (
    "Check the connection and the name, or download the weights and give them as "
    "open_clip:NAME=FILE."
)


class OpenClipTower(PooledTower):
    """The image tower of an open_clip model.

    Parameters
    ----------
    model:
        What ``open_clip.create_model`` returns; its text tower is left behind.
    projected:
        Give what ``encode_image`` gives (not normalised); else what the projection is fed with.

    Raises
    ------
    UserError
        If the tower pools and projects in one step and is asked for what lies between.
    """

    def __init__(self, model: Any, projected: bool) -> None:
        super().__init__()
        visual = model.visual.eval()
        if not projected:
            if isinstance(getattr(visual, "trunk", None), nn.Module):
                visual.head = nn.Identity()
            elif getattr(visual, "proj", None) is not None:
                visual.proj = None
            else:
                raise UserError(
                    f"{type(visual).__name__} has no features before its projection.",
                    "Use its projected features.",
                )
        self.visual = visual
        self._probe(_side(visual.image_size))

    @property
    def num_classes(self) -> int:
        """Width of projected features."""
        return self.num_features

    def forward_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised -> (B, D), pooled."""
        return self.visual(pixels)

    def forward_intermediates(
        self,
        pixels: torch.Tensor,
        indices: int | list[int] | None,
        norm: bool,
        output_fmt: str,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the pooled features and the maps (B, C, h, w) after the given blocks, or all."""
        given = self.visual.forward_intermediates(
            pixels, indices=indices, normalize_intermediates=norm, output_fmt=output_fmt
        )
        return given["image_features"], given["image_intermediates"]


def load_open_clip(
    address: str,
    file: str | None = None,
    projected: bool = True,
    trained: bool = True,
    by_hand: str = _BY_HAND,
) -> tuple[OpenClipTower, Preprocess]:
    """Build an image tower and the preprocessing it asks for.

    Parameters
    ----------
    address:
        ``NAME/TAG``, ``hf-hub:ORGANISATION/REPOSITORY``, a folder with ``open_clip_config.json``,
        or ``NAME`` alone with a file.
    file:
        Local weights for the architecture ``NAME``.
    projected:
        See :class:`OpenClipTower`.
    trained:
        False leaves the weights at random.
    by_hand:
        How to go on where the weights cannot be fetched.

    Raises
    ------
    UserError
        If open_clip is missing, nothing of that name exists, or the weights do not fit.
    """
    try:
        import open_clip
    except ImportError as error:
        raise UserError("'open_clip:' needs open_clip.", "Install dermino[clip].") from error
    name, _, tag = address.partition("/")
    options: dict[str, Any] = {"pretrained_text": False}
    if Path(address, CONFIG_FILE).is_file():
        name, tag = f"local-dir:{address}", ""
    elif address.startswith(_REPOSITORY):
        name, tag = address, ""
    elif name not in open_clip.list_models():
        raise unknown("open_clip model", name, open_clip.list_models())
    elif file is None and trained:
        tags = open_clip.list_pretrained_tags_by_model(name)
        if tag not in tags:
            raise unknown(f"tag of open_clip's {name}", tag, tags)
        options["pretrained"] = tag
        # open_clip only warns where a tag was trained with the activation a name does not have.
        told = open_clip.get_pretrained_cfg(name, tag)
        options["force_quick_gelu"] = bool(told.get("quick_gelu"))
    options["load_weights"] = trained and file is None
    model = fetch(
        f"'open_clip:{address}'",
        lambda: open_clip.create_model(name, **options),
        by_hand,
    )
    if file is not None:
        _fill(model, file)
    size = _side(model.visual.image_size)
    config = model.visual.preprocess_cfg
    preprocess = Preprocess(
        image_size=size,
        resize_size=size,
        mode="squash" if config["resize_mode"] == "squash" else "crop",
        interpolation=config["interpolation"],
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )
    return OpenClipTower(model, projected), preprocess


def _fill(model: Any, file: str) -> None:
    """Copy the image tower of a whole checkpoint, or fail with the keys that do not fit."""
    state = read_state(file)
    if any(key.startswith(_VISUAL) for key in state):
        state = {k.removeprefix(_VISUAL): v for k, v in state.items() if k.startswith(_VISUAL)}
    try:
        model.visual.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"The weights of '{file}' do not fit the model.", str(error)) from error


def _side(size: int | tuple[int, int]) -> int:
    if isinstance(size, int):
        return size
    if len(set(size)) > 1:
        raise UserError(f"The encoder wants images of {size} pixels.", "Only squares are read.")
    return int(size[0])
