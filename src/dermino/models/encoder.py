"""The Encoder: a vision backbone and its preprocessing, whatever library it came from."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn

from dermino.errors import UserError
from dermino.models.preprocess import Preprocess


class Encoder(nn.Module):
    """A frozen backbone that turns images into features.

    Parameters
    ----------
    name:
        How results and reports call it.
    backbone:
        A timm model, or a tower of another library behind timm's interface
        (``forward_features``, ``forward_head``, ``forward_intermediates``, ``feature_info``,
        ``num_features``).
    preprocess:
        What its images must go through.
    architecture:
        The library's name of the model, part of the identity.
    seen:
        What it was pretrained on: images and labelled images of each dataset. None = unknown,
        empty = untrained.
    model_args:
        What the backbone was built with beside the architecture's defaults, such as its pooling.
    projected:
        Send features through the backbone's last linear layer: of vision-language models it is the
        projection into the space shared with texts.
    """

    def __init__(
        self,
        name: str,
        backbone: nn.Module,
        preprocess: Preprocess,
        architecture: str,
        seen: dict[str, Any] | None = None,
        model_args: Mapping[str, Any] | None = None,
        projected: bool = False,
    ) -> None:
        super().__init__()
        self.name = name
        self.backbone: Any = backbone.eval().requires_grad_(False)
        self.preprocess = preprocess
        self.architecture = architecture
        self.seen = seen
        self.model_args = dict(model_args or {})
        self.projected = projected

    @property
    def embed_dim(self) -> int:
        """Length D of a feature vector."""
        if self.projected:
            return int(self.backbone.num_classes)
        # Some convolutional networks widen the last map once more before the classifier.
        return int(getattr(self.backbone, "head_hidden_size", self.backbone.num_features))

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.parameters()).device

    @cached_property
    def identity(self) -> str:
        """Hash of network, preprocessing and every weight: equal means equal features."""
        digest = hashlib.blake2b(digest_size=16)
        described = {
            "architecture": self.architecture,
            "model_args": self.model_args,
            "preprocess": self.preprocess.to_dict(),
            "projected": self.projected,
            # Activations have no weights: CLIP's two differ in nothing else.
            "network": repr(self.backbone),
        }
        digest.update(json.dumps(described, sort_keys=True).encode())
        for key, value in sorted(self.backbone.state_dict().items()):
            array = value.detach().cpu().contiguous()
            digest.update(f"{key}{array.dtype}{tuple(array.shape)}".encode())
            digest.update(array.flatten().view(torch.uint8).numpy())
        return digest.hexdigest()

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Return one vector an image: (B, 3, H, W) uint8 -> (B, D) float32.

        Vision transformers give the class token after the last norm (or their own pooling where
        they have no class token), convolutional networks the pooled last map.
        """
        return self(self._ready(images))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return one vector an image that is normalised: (B, 3, H, W) float32 -> (B, D) float32."""
        return self._pool(self.backbone.forward_features(pixels))

    def tokens(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vector and the dense map: (B, D) and (B, h, w, C) float32.

        The map holds the patches after the last norm, without class and register tokens, or the
        last map of a convolutional network. C is D unless features are projected.
        """
        ready = self._ready(images)
        features, maps = self._intermediates(ready, indices=1)
        dense = maps[-1].permute(0, 2, 3, 1)
        if features.ndim == 4:  # After the last norm and what else follows the last stage.
            channels_last = getattr(self.backbone, "output_fmt", "NCHW") == "NHWC"
            dense = features if channels_last else features.permute(0, 2, 3, 1)
        return self._pool(features), dense.float()

    @property
    def default_blocks(self) -> list[int]:
        """Where a segmentation head taps: the last four stages, or each quarter of the depth.

        Stages are those of a network that shrinks its maps on the way; a plain transformer keeps
        their size and has blocks instead (3, 6, 9, 12 of 12, counted from one).
        """
        stages = self.backbone.feature_info
        if len({stage["reduction"] for stage in stages}) > 1:
            return list(range(len(stages)))[-4:]
        return [math.ceil(quarter * len(stages) / 4) - 1 for quarter in range(1, 5)]

    def stages(
        self, images: torch.Tensor, blocks: Sequence[int] | None = None
    ) -> list[torch.Tensor]:
        """Return the normed maps after the given blocks or stages, each (B, h, w, C) float32.

        Of convolutional networks and other pyramids each has its own h, w and C.

        Parameters
        ----------
        images:
            (B, 3, H, W) uint8.
        blocks:
            Counted from zero; None = :attr:`default_blocks`.
        """
        chosen = list(self.default_blocks if blocks is None else blocks)
        # Libraries give each block once, in its order.
        taken = sorted(set(chosen))
        _, maps = self._intermediates(self._ready(images), indices=taken)
        return [maps[taken.index(block)].permute(0, 2, 3, 1).float() for block in chosen]

    def _pool(self, features: torch.Tensor) -> torch.Tensor:
        return self.backbone.forward_head(features, pre_logits=not self.projected).float()

    def _intermediates(
        self, ready: torch.Tensor, indices: int | list[int]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        if not hasattr(self.backbone, "forward_intermediates"):
            raise UserError(
                f"'{self.architecture}' gives no maps, only vectors.",
                "Choose another encoder for segmentation.",
            )
        return self.backbone.forward_intermediates(
            ready, indices=indices, norm=True, output_fmt="NCHW"
        )

    def _ready(self, images: torch.Tensor) -> torch.Tensor:
        if images.dtype != torch.uint8:
            raise UserError(
                f"The encoder takes uint8 images, not {images.dtype}.",
                "Use Encoder.preprocess.resize; normalisation happens inside.",
            )
        return self.preprocess.normalise(images.to(self.device))
