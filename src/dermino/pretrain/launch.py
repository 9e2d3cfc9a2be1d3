"""Devices, precision and processes: the only file that knows how a run is spread out."""

from __future__ import annotations

import os
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import nn

from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.fabric import Fabric, ModelParallelStrategy
from dermino.pretrain.sharding import shard

_GRAPHS = 32


def build_fabric(config: PretrainConfig) -> Fabric:
    """Set up this process: alone, or as one of ``torchrun``'s or of SLURM's ``srun``.

    One process drives one device; on CPUs the processes talk through gloo. Alone there is nothing
    to spread, whatever the recipe's strategy.
    """
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    options: dict[str, Any] = {"accelerator": accelerator, "devices": 1}
    local, nodes = processes_per_node(), number_of_nodes()
    if local * nodes > 1:
        options["devices"], options["num_nodes"] = local, nodes
        options["strategy"] = "ddp"
        if config.strategy == "fsdp":
            options["strategy"] = ModelParallelStrategy(
                shard, data_parallel_size=local * nodes, tensor_parallel_size=1
            )
    # Float32 means float32 in convolutions too, as it does by default in matrix products.
    torch.backends.cudnn.allow_tf32 = False
    fabric = Fabric(precision=resolve_precision(config, accelerator), **options)
    fabric.launch()
    return fabric


def processes_per_node() -> int:
    """Return how many processes ``torchrun`` or ``srun`` has started on this machine."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["LOCAL_WORLD_SIZE"])
    return int(os.environ.get("SLURM_NTASKS", "1")) // number_of_nodes() if _under_srun() else 1


def number_of_nodes() -> int:
    """Return on how many machines ``torchrun`` or ``srun`` has started processes."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return int(os.environ["WORLD_SIZE"]) // int(os.environ["LOCAL_WORLD_SIZE"])
    return int(os.environ.get("SLURM_NNODES", "1")) if _under_srun() else 1


def _under_srun() -> bool:
    # In a shell on a node SLURM's variables are there, but nobody has started the other tasks.
    interactive = os.environ.get("SLURM_JOB_NAME") in {"bash", "interactive"}
    return "SLURM_PROCID" in os.environ and "SLURM_STEP_ID" in os.environ and not interactive


def resolve_precision(config: PretrainConfig, accelerator: str) -> Any:
    """Return the precision of the run: bf16 on GPUs that have it, float32 elsewhere."""
    if config.precision != "auto":
        return config.precision
    bf16 = accelerator == "cuda" and torch.cuda.is_bf16_supported()
    return "bf16-mixed" if bf16 else "32-true"


def resolve_workers(config: PretrainConfig, fabric: Fabric) -> int:
    """Return the number of loader processes of this process.

    A CPU run keeps all but one core for the arithmetic; a GPU run shares the cores out, at most
    sixteen to each GPU.
    """
    if config.workers != "auto":
        return config.workers
    cores = os.cpu_count() or 1
    if fabric.device.type == "cpu":
        return 1 if cores > 1 else 0
    return max(min(cores // processes_per_node() - 1, 16), 1)


def compile_blocks(method: nn.Module, dynamic: bool) -> None:
    """Compile every transformer block in place, the teacher's too; parameters keep their names.

    Blocks are alike, so they share what is compiled.

    Parameters
    ----------
    method:
        What has blocks.
    dynamic:
        Compile once for all shapes instead of once for each. Left to PyTorch, the change from one
        to the other would come between a pass forward and its recomputation.
    """
    # Counted over all blocks: teacher, global and local crops, each with a last block of its own,
    # and the monitors. Beyond the number PyTorch goes on uncompiled.
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, _GRAPHS)
    for module in method.modules():
        if isinstance(module, Block):
            # Not the module itself: FSDP's hooks around it have to stay as they are.
            module.forward = torch.compile(module.forward, dynamic=dynamic)  # type: ignore[method-assign]
