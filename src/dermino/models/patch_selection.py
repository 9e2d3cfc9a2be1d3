"""Which patch tokens of a batch somebody reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch


# Not frozen: Fabric's mixed precision walks through what a module is given and writes copies.
@dataclass
class PatchSelection:
    """Patches of some images, as places that a device can use without being asked for sizes.

    Parameters
    ----------
    places:
        (M,) int64, ascending, in the flattened (B, N) patches of a batch.
    images:
        (m,) int64, ascending: the images that the places lie in.
    most:
        No image has more of them than these.
    """

    places: torch.Tensor
    images: torch.Tensor
    most: int

    @classmethod
    def of(cls, masks: torch.Tensor) -> PatchSelection:
        """Select the patches that (B, N) bool masks hide.

        ``most`` is rounded up to a multiple of 8: rounded, it is the same number in nearly every
        batch, and so are the shapes that depend on it.
        """
        counts = masks.sum(dim=1)
        most = int(counts.max()) if masks.numel() else 0
        return cls(
            places=masks.flatten().nonzero().squeeze(1),
            images=counts.nonzero().squeeze(1),
            most=min(-(-most // 8) * 8, masks.shape[1]),
        )

    @classmethod
    def none(cls, device: torch.device) -> PatchSelection:
        """Select nothing."""
        nothing = torch.empty(0, dtype=torch.int64, device=device)
        return cls(nothing, nothing, 0)

    def __len__(self) -> int:
        return len(self.places)

    def map(self, function: Callable[[torch.Tensor], torch.Tensor]) -> PatchSelection:
        """Apply a function to each tensor."""
        return PatchSelection(function(self.places), function(self.images), self.most)

    def queries(self, patches: int, prefix: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the selected tokens of each image, equally many, and where the real ones lie.

        Parameters
        ----------
        patches:
            Patches N of an image.
        prefix:
            Tokens before them.

        Returns
        -------
        (m, most) int64 places among an image's tokens, 0 in all that is not needed; (M,) int64
        places in that table, flattened.
        """
        image = self.places.div(patches, rounding_mode="floor")
        first = torch.searchsorted(image, image)
        number = torch.arange(len(image), device=image.device) - first
        rows = torch.searchsorted(self.images, image) * self.most + number
        table = self.places.new_zeros(len(self.images) * self.most)
        table = table.index_copy(0, rows, self.places % patches + prefix)
        return table.unflatten(0, (len(self.images), self.most)), rows
