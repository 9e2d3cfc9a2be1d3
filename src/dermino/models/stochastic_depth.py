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
    ) -> torch.Tensor:
        """Return the (B, N, D) tokens after the block.

        Parameters
        ----------
        tokens:
            (B, N, D).
        attention_rows, mlp_rows:
            (k,) int64 images each branch is computed for; None = all.
        scale:
            Factor of what the branches add.
        """
        tokens = _add(tokens, lambda x: self.ls1(self.attn(self.norm1(x))), attention_rows, scale)
        return _add(tokens, lambda x: self.ls2(self.mlp(self.norm2(x))), mlp_rows, scale)


def _add(
    tokens: torch.Tensor,
    branch: Callable[[torch.Tensor], torch.Tensor],
    rows: torch.Tensor | None,
    scale: float,
) -> torch.Tensor:
    if rows is None:
        return tokens + branch(tokens)
    added = branch(tokens[rows])
    return tokens.index_add(0, rows, added.to(tokens.dtype), alpha=scale)
