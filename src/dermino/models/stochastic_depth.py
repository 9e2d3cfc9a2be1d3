"""Stochastic depth: each residual branch is computed for some images of a batch only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from timm.models.vision_transformer import Block


# Not frozen: Fabric's mixed precision walks through what a module is given and writes copies.
@dataclass
class Paths:
    """Who takes which residual branch; the others pass it by.

    Parameters
    ----------
    rows:
        Two entries a block, attention and perceptron: (k,) int64, ascending, rows of the batch.
    scale:
        Factor of what a branch adds, so that its expectation stays.
    """

    rows: tuple[torch.Tensor, ...]
    scale: float


class DroppableBlock(Block):
    """timm's transformer block, computed for a subset of the batch as DINOv2 does (block.py).

    Dropped images cost nothing, where a mask after the branch would only hide the work.
    """

    def forward(  # type: ignore[override]
        self,
        tokens: torch.Tensor,
        attention_rows: torch.Tensor | None = None,
        mlp_rows: torch.Tensor | None = None,
        scale: float = 1.0,
        places: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return the tokens after the block: (B, N, D), or (P, D) of some places only.

        Parameters
        ----------
        tokens:
            (B, N, D).
        attention_rows, mlp_rows:
            (k,) int64 images each branch is computed for; None = all.
        scale:
            Factor of what the branches add.
        places:
            (P,) int64 tokens wanted, in the flattened (B, N). Attention needs all tokens, the
            perceptron only these: what nobody reads of a last block is not computed.
        """
        images, length, _ = tokens.shape
        tokens = _add(tokens, lambda x: self.ls1(self.attn(self.norm1(x))), attention_rows, scale)
        if places is None:
            return _add(tokens, lambda x: self.ls2(self.mlp(self.norm2(x))), mlp_rows, scale)
        tokens = tokens.flatten(0, 1).index_select(0, places)
        added = self.ls2(self.mlp(self.norm2(tokens)))
        if mlp_rows is None:
            return tokens + added
        # So few tokens are left that hiding is cheaper than shapes that change with the images.
        factors = added.new_zeros(images).index_fill(0, mlp_rows, scale)
        return tokens + added * factors[places // length].unsqueeze(1)


def _add(
    tokens: torch.Tensor,
    branch: Callable[[torch.Tensor], torch.Tensor],
    rows: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    if rows is None:
        return tokens + branch(tokens)
    added = branch(tokens.index_select(0, rows))
    return tokens.index_add(0, rows, added.to(tokens.dtype), alpha=scale)
