"""What image towers of other libraries share: pooled features and maps behind timm's interface."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn


class PooledTower(nn.Module, ABC):
    """An image tower that pools its features itself.

    Attributes
    ----------
    num_features:
        Width D of the features.
    feature_info:
        For each block ``num_chs``, the channels of its map, and ``reduction``, pixels a cell.
    """

    num_features: int
    feature_info: list[dict[str, int]]

    @abstractmethod
    def forward_features(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) normalised -> (B, D), pooled."""

    def forward_head(self, features: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Return the features as they are: :meth:`forward_features` has pooled them."""
        return features

    @abstractmethod
    def forward_intermediates(
        self,
        pixels: torch.Tensor,
        indices: int | list[int] | None,
        norm: bool,
        output_fmt: str,
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Return the pooled features and the maps (B, C, h, w) after the given blocks, or all.

        Parameters
        ----------
        pixels:
            (B, 3, H, W) normalised.
        indices:
            Blocks, counted from zero; a number alone = so many from the last; None = all.
        norm:
            Whether the maps pass the last norm.
        output_fmt:
            ``NCHW``, as timm calls it.
        """

    @torch.no_grad()
    def _probe(self, side: int) -> None:
        """Learn the attributes from one black image of ``side`` pixels."""
        black = torch.zeros(1, 3, side, side)
        features, maps = self.eval().forward_intermediates(black, None, True, "NCHW")
        self.num_features = features.shape[1]
        self.feature_info = [
            {"num_chs": one.shape[1], "reduction": side // one.shape[-1]} for one in maps
        ]
