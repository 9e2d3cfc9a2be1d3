"""Vision models of Hugging Face's transformers behind timm's interface."""

from __future__ import annotations

import inspect
from typing import Any

import torch

from dermino.errors import UserError, first_of
from dermino.models.hub import fetch
from dermino.models.pooled_tower import PooledTower
from dermino.models.preprocess import Preprocess

_LAST_NORMS = ("layernorm", "norm", "post_layernorm")
_RESAMPLING = {2: "bilinear", 3: "bicubic"}
_SHOWN = 8


class TransformersTower(PooledTower):
    """The vision part of a transformers model.

    Features are what each family publishes: the pooled output of CLIP and SigLIP, the class token
    after the last norm of other transformers (their poolers belong to a classifier and are often
    untrained), the mean of the patches where there is no class token, and the pooled last map of
    networks that give maps.

    Parameters
    ----------
    model:
        What ``AutoModel.from_pretrained`` returns.

    Raises
    ------
    UserError
        If the model takes no images.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = getattr(model, "vision_model", model)
        if self.model.main_input_name != "pixel_values":
            raise UserError(
                f"This is a {type(model).__name__}, which takes no images.",
                "Choose a vision model, or one with an image tower.",
            )
        self.config = getattr(model.config, "vision_config", model.config)
        forward = inspect.signature(self.model.forward).parameters
        self._options = {"output_hidden_states": True}
        if "interpolate_pos_encoding" in forward:
            self._options["interpolate_pos_encoding"] = True
        size = getattr(self.config, "image_size", None) or 224
        self._probe(size if isinstance(size, int) else size[0])

    def forward_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised -> (B, D), pooled."""
        return self._pooled(self.model(pixels, **self._options))

    def forward_intermediates(
        self,
        pixels: torch.Tensor,
        indices: int | list[int] | None,
        norm: bool,
        output_fmt: str,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the pooled features and the maps (B, C, h, w) after the given blocks, or all."""
        given = self.model(pixels, **self._options)
        maps = self._maps(given, pixels, norm)
        if isinstance(indices, int):
            maps = maps[-indices:]
        elif indices is not None:
            maps = [maps[index] for index in indices]
        return self._pooled(given), maps

    def _pooled(self, given: Any) -> torch.Tensor:
        last = given.last_hidden_state
        if last.ndim == 4:
            return (
                last.mean((2, 3)) if given.pooler_output is None else given.pooler_output.flatten(1)
            )
        if hasattr(self.model, "post_layernorm"):
            return given.pooler_output
        embeddings = getattr(self.model, "embeddings", None)
        has_class_token = getattr(embeddings, "cls_token", None) is not None
        return last[:, 0] if has_class_token else last.mean(1)

    def _maps(self, given: Any, pixels: torch.Tensor, norm: bool) -> list[torch.Tensor]:
        """Turn hidden states into maps; the first is what enters the first block."""
        spatial = getattr(given, "reshaped_hidden_states", None) or given.hidden_states
        if spatial[-1].ndim == 4:
            maps = list(spatial[1:])
            last = given.last_hidden_state
            if norm and last.ndim == 3:
                maps[-1] = last.transpose(1, 2).unflatten(2, maps[-1].shape[-2:])
            return maps
        rows, columns = (side // self.config.patch_size for side in pixels.shape[-2:])
        last_norm = next((m for n in _LAST_NORMS if (m := getattr(self.model, n, None))), None)
        maps = []
        for state in spatial[1:]:
            normed = last_norm(state) if norm and last_norm is not None else state
            patches = normed[:, normed.shape[1] - rows * columns :]
            maps.append(patches.transpose(1, 2).unflatten(2, (rows, columns)))
        return maps


def load_transformers(model_id: str) -> tuple[Any, Preprocess | None]:
    """Fetch a vision model and the preprocessing its repository states.

    Parameters
    ----------
    model_id:
        A name on the hub or a local folder.

    Returns
    -------
    The transformers model, whole, and None where the repository states no preprocessing.

    Raises
    ------
    UserError
        If transformers is missing, the model cannot be fetched or weights are missing from it.
    """
    try:
        from transformers import AutoModel
    except ImportError as error:
        raise UserError("'hf:' needs transformers.", "Install dermino[text].") from error
    model, report = fetch(
        f"'hf:{model_id}'",
        lambda: AutoModel.from_pretrained(
            model_id, use_safetensors=True, output_loading_info=True, dtype=torch.float32
        ),
        "Check the name and the connection, or download the repository and give its folder.",
    )
    missing = sorted(key for key in report["missing_keys"] if "pooler" not in key)
    if missing:
        raise UserError(
            f"The weights of 'hf:{model_id}' do not fill a {type(model).__name__}.",
            f"{len(missing)} missing: {first_of(missing, _SHOWN)}",
        )
    return model, _preprocess(model_id)


def _preprocess(model_id: str) -> Preprocess | None:
    """Read ``preprocessor_config.json``."""
    from transformers import AutoImageProcessor

    try:
        told = AutoImageProcessor.from_pretrained(model_id).to_dict()
    except (OSError, ValueError):
        return None
    size, crop = told.get("size") or {}, told.get("crop_size") or {}
    squash = "height" in size
    resize = size.get("height") or size.get("shortest_edge")
    side = (crop.get("height") if told.get("do_center_crop") else None) or resize
    if side is None or resize is None or not told.get("do_normalize", True):
        return None
    return Preprocess(
        image_size=int(side),
        resize_size=int(resize),
        mode="squash" if squash and side == resize else "crop",
        interpolation=_RESAMPLING.get(int(told.get("resample") or 2), "bilinear"),
        mean=tuple(told["image_mean"]),
        std=tuple(told["image_std"]),
    )
