"""Stochastic depth: each residual branch is computed for some images of a batch only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


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


def add_branch(
    tokens: torch.Tensor,
    branch: Callable[[torch.Tensor], torch.Tensor],
    rows: torch.Tensor | None,
) -> torch.Tensor:
    """Return the tokens plus what a branch makes of them, computed for some images only.

    Dropped images cost nothing, where a mask after the branch would only hide the work.

    Parameters
    ----------
    tokens:
        (B, N, D).
    branch:
        Maps the (k, N, D) tokens of the chosen images to what is added to them.
    rows:
        (k,) int64, the chosen images, none twice; None = all.
    """
    if rows is None:
        return tokens + branch(tokens)
    tokens, chosen = _Fork.apply(tokens, rows)
    return tokens.index_add(0, rows, branch(chosen).to(tokens.dtype))


class _Fork(torch.autograd.Function):
    """Hands on the tokens and a copy of some rows.

    The gradient of the rows is added where the gradient of the tokens lies; autograd would first
    write it into zeros as large as the tokens.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, tokens: torch.Tensor, rows: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(rows)
        return tokens.view_as(tokens), tokens.index_select(0, rows)

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, grad_tokens: torch.Tensor, grad_chosen: torch.Tensor
    ) -> tuple[torch.Tensor, None]:
        (rows,) = ctx.saved_tensors
        return grad_tokens.index_add(0, rows, grad_chosen), None
