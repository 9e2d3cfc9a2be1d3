"""DINOv2 alone: the baseline that ignores all labels."""

from __future__ import annotations

import torch
from timm.models.vision_transformer import VisionTransformer

from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.method import METHODS
from dermino.pretrain.methods.dermino import DerminoMethod


@METHODS.register("dinov2")
class DINOv2Method(DerminoMethod):
    """The image, patch and KoLeo objectives without prototypes (paper ED Tables 1 and 2)."""

    uses_labels = False

    def __init__(
        self,
        config: PretrainConfig,
        backbone: VisionTransformer,
        prototypes: torch.Tensor | None,
    ) -> None:
        super().__init__(config, backbone, None)
