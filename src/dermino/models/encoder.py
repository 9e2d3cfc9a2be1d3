"""The Encoder: a vision backbone and its preprocessing, whatever library it came from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
from torch import nn

from dermino.errors import UserError
from dermino.models.preprocess import Preprocess


class Encoder(nn.Module):
    """A frozen timm backbone that turns images into features.

    Parameters
    ----------
    name:
        How results and reports call it.
    backbone:
        A timm model without classifier.
    preprocess:
        What its images must go through.
    architecture:
        timm's name of the model, part of the identity.
    seen:
        What it was pretrained on: images and labelled images of each dataset. None = unknown,
        empty = untrained.
    """

    def __init__(
        self,
        name: str,
        backbone: nn.Module,
        preprocess: Preprocess,
        architecture: str,
        seen: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.name = name
        self.backbone: Any = backbone.eval().requires_grad_(False)
        self.preprocess = preprocess
        self.architecture = architecture
        self.seen = seen

    @property
    def embed_dim(self) -> int:
        """Length D of a feature vector."""
        return int(self.backbone.num_features)

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return next(self.parameters()).device

    @cached_property
    def identity(self) -> str:
        """Hash of architecture, preprocessing and every weight: equal means equal features."""
        digest = hashlib.blake2b(digest_size=16)
        described = {"architecture": self.architecture, "preprocess": self.preprocess.to_dict()}
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
        features = self.backbone.forward_features(self._ready(images))
        return self.backbone.forward_head(features, pre_logits=True).float()

    def tokens(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the vector and the dense map: (B, D) and (B, h, w, D) float32."""
        ready = self._ready(images)
        features = self.backbone.forward_features(ready)
        pooled = self.backbone.forward_head(features, pre_logits=True).float()
        if features.ndim == 4:
            return pooled, features.permute(0, 2, 3, 1).float()
        patches = features[:, self.backbone.num_prefix_tokens :]
        height, width = self.backbone.patch_embed.dynamic_feat_size(ready.shape[-2:])
        return pooled, patches.unflatten(1, (height, width)).float()

    def stages(self, images: torch.Tensor, blocks: Sequence[int]) -> list[torch.Tensor]:
        """Return the normed maps after the given blocks, each (B, h, w, D) float32."""
        maps = self.backbone.forward_intermediates(
            self._ready(images),
            indices=list(blocks),
            norm=True,
            intermediates_only=True,
            output_fmt="NCHW",
        )
        return [stage.permute(0, 2, 3, 1).float() for stage in maps]

    def _ready(self, images: torch.Tensor) -> torch.Tensor:
        if images.dtype != torch.uint8:
            raise UserError(
                f"The encoder takes uint8 images, not {images.dtype}.",
                "Use Encoder.preprocess.resize; normalisation happens inside.",
            )
        return self.preprocess.normalise(images.to(self.device))
