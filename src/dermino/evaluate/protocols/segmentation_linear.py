"""Segmentation with a linear head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field
from torch import nn

from dermino.evaluate.protocol import PROTOCOLS
from dermino.evaluate.segmentation.feature_maps import Extractor
from dermino.evaluate.segmentation.linear_head import LinearHead
from dermino.evaluate.segmentation.protocol import Segmentation
from dermino.models.encoder import Encoder


@PROTOCOLS.register("segmentation-linear")
class SegmentationLinear(Segmentation):
    """A linear head on the encoder's last map (paper, section 4.2.3).

    Parameters
    ----------
    dropout:
        Share of channels dropped in training.
    """

    title: ClassVar[str] = "Segmentation, linear head"
    description: ClassVar[str] = (
        "Batch normalisation, dropout 0.1 and a 1x1 convolution on the frozen patch grid: Adam "
        "1e-3, batches of 64, cosine over 20 epochs, masks of 224 pixels."
    )

    dropout: float = Field(0.1, ge=0, lt=1)

    def extractor(self, encoder: Encoder) -> Extractor:
        """Return what computes the last map."""
        return lambda images: [encoder.tokens(images)[1]]

    def head(self, channels: Sequence[int]) -> nn.Module:
        """Build the head."""
        return LinearHead(channels[-1], self.dropout)
