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


Branch = Callable[[torch.Tensor], torch.Tensor]


def add_branches(
    tokens: torch.Tensor,
    *branches: tuple[Branch, torch.Tensor | None],
    owned: bool = False,
    owns_gradient: bool = False,
) -> torch.Tensor:
    """Return the tokens plus what branches make of them, one after the other, for some images.

    Dropped images cost nothing, where a mask after the branch would only hide the work.

    Parameters
    ----------
    tokens:
        (B, N, D).
    branches:
        Each a function of the (k, N, D) tokens of the chosen images, to be added to them, and
        (k,) int64, the chosen images, none twice; None = all.
    owned:
        The tokens are of no further use to anybody, and may be overwritten.
    owns_gradient:
        So is the gradient that comes back.
    """
    # A compiler writes where it can by itself, and does not follow what is written in place.
    in_place = not torch.compiler.is_compiling()
    for number, (branch, rows) in enumerate(branches):
        if rows is None:
            added = branch(tokens)
            # With a gradient to come, the branch has kept the tokens for it.
            alone = in_place and owned and not torch.is_grad_enabled()
            tokens = tokens.add_(added) if alone else tokens + added
        else:
            # The gradient passes through the branch behind, which then has made it anew.
            behind = branches[number + 1 : number + 2]
            gradient = behind[0][1] is not None if behind else owns_gradient
            tokens, chosen = _Fork.apply(tokens, rows, in_place and owned, in_place and gradient)
            added = branch(chosen).to(tokens.dtype)
            add = tokens.index_add_ if in_place and owned else tokens.index_add
            tokens = add(0, rows, added)
        owned = True
    return tokens


class _Fork(torch.autograd.Function):
    """Hands on the tokens and a copy of some rows.

    The gradient of the rows is added where the gradient of the tokens lies; autograd would first
    write it into zeros as large as the tokens.
    """

    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any, tokens: torch.Tensor, rows: torch.Tensor, owned: bool, owns_gradient: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        ctx.save_for_backward(rows)
        ctx.owns_gradient = owns_gradient
        chosen = tokens.index_select(0, rows)
        if owned:
            ctx.mark_dirty(tokens)
            return tokens, chosen
        return tokens.view_as(tokens), chosen

    @staticmethod
    def backward(  # type: ignore[override]
        ctx: Any, grad_tokens: torch.Tensor, grad_chosen: torch.Tensor
    ) -> tuple[torch.Tensor, None, None, None]:
        (rows,) = ctx.saved_tensors
        add = grad_tokens.index_add_ if ctx.owns_gradient else grad_tokens.index_add
        return add(0, rows, grad_chosen), None, None, None
