"""Segmentation with UperNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import nn

from dermino.errors import UserError
from dermino.evaluate.protocol import PROTOCOLS
from dermino.evaluate.segmentation.feature_maps import Extractor
from dermino.evaluate.segmentation.protocol import Segmentation
from dermino.evaluate.segmentation.upernet import UperNet
from dermino.models.encoder import Encoder


@PROTOCOLS.register("segmentation-upernet")
class SegmentationUperNet(Segmentation):
    """UperNet on four stages of the encoder (paper, section 4.2.3).

    Parameters
    ----------
    width:
        Channels inside the head; the authors' scripts have 768, PanDerm's 1,024.
    pool_scales:
        Sides of the grids that the last map is pooled to.
    dropout:
        Share of channels dropped before the last layer.
    blocks:
        The encoder's blocks or stages whose normed maps are taken, finest first, counted from 0.
        Default: the last of each quarter of a vision transformer (2, 5, 8, 11 of twelve), the last
        four stages of a network that shrinks its maps. PanDerm's scripts take 7, 11, 15, 23 of 24.
    """

    title: ClassVar[str] = "Segmentation, UperNet"
    description: ClassVar[str] = (
        "UperNet on four stages of the frozen encoder: Adam 1e-3, batches of 64, cosine over 20 "
        "epochs, masks of 224 pixels."
    )

    width: int = Field(768, ge=1)
    pool_scales: tuple[int, ...] = (1, 2, 3, 6)
    dropout: float = Field(0.0, ge=0, lt=1)
    blocks: tuple[int, ...] | None = Field(None, min_length=2)

    def extractor(self, encoder: Encoder) -> Extractor:
        """Return what computes the maps of the stages."""
        count = len(encoder.backbone.feature_info)
        if self.blocks is not None and not all(0 <= block < count for block in self.blocks):
            raise UserError(
                f"The encoder '{encoder.name}' has blocks 0 to {count - 1}, not all of "
                f"{', '.join(map(str, self.blocks))}.",
                "Choose others with --set segmentation-upernet.blocks='[...]'.",
            )
        return lambda images: encoder.stages(images, self.blocks)

    def head(self, channels: Sequence[int]) -> nn.Module:
        """Build the head."""
        return UperNet(channels, self.width, self.pool_scales, self.dropout)
