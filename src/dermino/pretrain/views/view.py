"""What a method asks the loader for: crops, their colours and which patches are hidden."""

from __future__ import annotations

from dataclasses import dataclass

from dermino.pretrain.views.masking import BlockMasking, FixedMasking
from dermino.pretrain.views.photometric import UNCHANGED, Photometric


@dataclass(frozen=True)
class View:
    """One random resized crop, flipped half of the time.

    Parameters
    ----------
    size:
        Side, pixels.
    scale:
        Range of the crop's share of the image's area.
    photometric:
        Its colours.
    """

    size: int
    scale: tuple[float, float]
    photometric: Photometric = UNCHANGED


@dataclass(frozen=True)
class Views:
    """All views of an image.

    Parameters
    ----------
    global_views, local_views:
        Each of one size.
    masking:
        Which patches of the global views are hidden; None hides nothing.
    """

    global_views: tuple[View, ...]
    local_views: tuple[View, ...] = ()
    masking: BlockMasking | FixedMasking | None = None

    @property
    def all(self) -> tuple[View, ...]:
        """Global and local views."""
        return (*self.global_views, *self.local_views)
