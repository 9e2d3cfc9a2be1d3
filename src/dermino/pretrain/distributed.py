"""What the objectives need to know of other processes; a single process needs no group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.nn.functional import all_gather as all_gather_in_graph

_ALONE = ContextVar("alone", default=False)


@contextmanager
def alone() -> Iterator[None]:
    """Let this process compute as if it were the only one, without waiting for the others."""
    before = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(before)


def world_size() -> int:
    """Number of processes that train together."""
    if _ALONE.get():
        return 1
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process among them."""
    return dist.get_rank() if world_size() > 1 else 0


def all_gather(values: torch.Tensor) -> torch.Tensor:
    """Concatenate (B, ...) tensors of all processes in the order of ranks, outside the graph."""
    if world_size() == 1:
        return values
    parts = [torch.empty_like(values) for _ in range(world_size())]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts)


def all_gather_with_gradient(values: torch.Tensor) -> torch.Tensor:
    """Concatenate (B, ...) tensors of all processes; gradients flow back to each of them."""
    if world_size() == 1:
        return values
    return torch.cat(all_gather_in_graph(values.contiguous()))


def all_gather_numbers(values: Sequence[int]) -> list[int]:
    """Join lists of numbers, which may differ in length, in the order of ranks."""
    if world_size() == 1:
        return list(values)
    parts: list[Any] = [None] * world_size()
    dist.all_gather_object(parts, list(values))
    return [value for part in parts for value in part]


def all_reduce_sum(values: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over processes, in place, outside the graph."""
    if world_size() > 1:
        dist.all_reduce(values, op=dist.ReduceOp.SUM)
    return values


def all_reduce_max(values: torch.Tensor) -> torch.Tensor:
    """Take the maximum of a tensor over processes, in place, outside the graph."""
    if world_size() > 1:
        dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return values
