"""UperNet: a pyramid of pooled maps on top, a feature pyramid below (Xiao et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class UperNet(nn.Module):
    """Joins the maps of several stages (paper, section 4.2.3; Xiao et al., section 3.1).

    The last map is pooled to several grids and joined with them (PSPNet); from there a feature
    pyramid goes down to the first map; all levels are joined at its resolution. Maps may have one
    resolution, as those of plain vision transformers have, or decreasing ones.

    Parameters
    ----------
    channels:
        D of each stage, finest first.
    width:
        Channels inside the head.
    pool_scales:
        Sides of the pooled grids.
    dropout:
        Share of channels dropped before the last layer.
    classes:
        C; 2 are background and lesion.
    """

    def __init__(
        self,
        channels: Sequence[int],
        width: int = 768,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.0,
        classes: int = 2,
    ) -> None:
        super().__init__()
        *lower, top = channels
        self.pooled = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(scale), _convolution(top, width, 1))
            for scale in pool_scales
        )
        self.top = _convolution(top + len(pool_scales) * width, width, 3)
        self.lateral = nn.ModuleList(_convolution(depth, width, 1) for depth in lower)
        self.smooth = nn.ModuleList(_convolution(width, width, 3) for _ in lower)
        self.fuse = _convolution(len(channels) * width, width, 3)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(width, classes, 1)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Return logits at the first map's resolution: stages (B, D, h, w) -> (B, C, h, w)."""
        *lower, last = stages
        pooled = [_resize(pool(last), last) for pool in self.pooled]
        levels = [self.top(torch.cat([last, *pooled], dim=1))]
        for lateral, stage in zip(reversed(self.lateral), reversed(lower), strict=True):
            levels.insert(0, lateral(stage) + _resize(levels[0], stage))
        pyramid = zip(self.smooth, levels[:-1], strict=True)
        smooth = [convolve(level) for convolve, level in pyramid]
        joined = [_resize(level, stages[0]) for level in [*smooth, levels[-1]]]
        logits: Tensor = self.classify(self.dropout(self.fuse(torch.cat(joined, dim=1))))
        return logits


def _convolution(inputs: int, outputs: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
        nn.SyncBatchNorm(outputs),
        nn.ReLU(),
    )


def _resize(maps: Tensor, like: Tensor) -> Tensor:
    if maps.shape[-2:] == like.shape[-2:]:
        return maps
    return F.interpolate(maps, like.shape[-2:], mode="bilinear", align_corners=False)
