"""Parameters spread over processes (FSDP), and the whole tensors that files hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from dermino.models.masked_vit import CroppedVisionTransformer
from dermino.models.projection_head import ProjectionHead
from dermino.pretrain.distributed import rank

# Gathered and let go one after the other; what is in none of them stays with the method itself.
_UNITS = (Block, CroppedVisionTransformer, ProjectionHead)


def shard(method: nn.Module, mesh: DeviceMesh) -> nn.Module:
    """Spread the parameters of a method over the processes of a mesh, in place.

    Trained and fixed ones alike: student, teacher and heads, block by block.
    """
    over = mesh["data_parallel"]
    for module in reversed([m for m in method.modules() if isinstance(m, _UNITS)]):
        fully_shard(module, mesh=over)
    fully_shard(method, mesh=over)
    return method


def whole(values: Any) -> Any:
    """Return nested dictionaries and lists with every sharded tensor gathered, for a file.

    All processes have to call it, in the same order; the first one gets the tensors, on its CPU,
    since together they may be more than a device holds. What is not sharded stays as it is.
    """
    if isinstance(values, DTensor):
        gathered = values.full_tensor()
        return gathered.cpu() if rank() == 0 else gathered.new_empty(0)
    if isinstance(values, Mapping):
        return {key: whole(value) for key, value in values.items()}
    return [whole(value) for value in values] if isinstance(values, list) else values


def clip_gradients(module: nn.Module, limit: float) -> torch.Tensor:
    """Scale the gradients of a module down to a norm of ``limit``; return the () norm before."""
    parameters = [p for p in module.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    value = norm.full_tensor() if isinstance(norm, DTensor) else norm
    # On a GPU to ask would cost more than to multiply by one.
    if value.device.type != "cpu" or not value <= limit:
        torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return value


def load_whole(
    method: nn.Module,
    optimizer: Any,
    method_state: Mapping[str, torch.Tensor],
    optimizer_state: Mapping[str, Any],
) -> None:
    """Load what :func:`whole` returned, whether this run is sharded or not.

    Raises
    ------
    RuntimeError, ValueError, KeyError
        If the states belong to another method.
    """
    target = method.state_dict()
    method.load_state_dict(
        {key: _sharded_like(value, target.get(key)) for key, value in method_state.items()}
    )
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [n for group in optimizer_state["param_groups"] for n in group["params"]]
    moments = {
        number: {
            key: _sharded_like(value, parameter) if value.shape == parameter.shape else value
            for key, value in optimizer_state["state"][number].items()
        }
        for number, parameter in zip(numbers, parameters, strict=True)
        if number in optimizer_state["state"]
    }
    # Which kernel does the arithmetic is a matter of this device, not of the run's last one.
    fused = optimizer.param_groups[0]["fused"]
    optimizer.load_state_dict({**optimizer_state, "state": moments})
    for group in optimizer.param_groups:
        group["fused"] = fused


def _sharded_like(value: torch.Tensor, target: torch.Tensor | None) -> torch.Tensor:
    if not isinstance(target, DTensor):
        return value
    mesh = target.device_mesh
    # Every process has read the whole file, so nothing has to be sent.
    return distribute_tensor(
        value.to(mesh.device_type), mesh, target.placements, src_data_rank=None
    )
