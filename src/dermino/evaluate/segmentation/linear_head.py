"""The linear segmentation head."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class LinearHead(nn.Module):
    """Normalise, drop channels, and classify each position (paper, section 4.2.3).

    Parameters
    ----------
    channels:
        D, of the map.
    dropout:
        Share of channels dropped in training.
    classes:
        C; 2 are background and lesion.
    """

    def __init__(self, channels: int, dropout: float = 0.1, classes: int = 2) -> None:
        super().__init__()
        self.norm = nn.SyncBatchNorm(channels)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(channels, classes, 1)

    def forward(self, stages: Sequence[Tensor]) -> Tensor:
        """Return logits of the last map: (B, D, h, w) -> (B, C, h, w)."""
        logits: Tensor = self.classify(self.dropout(self.norm(stages[-1])))
        return logits
