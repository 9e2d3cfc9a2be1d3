"""Devices, precision and processes: the only file that knows how a run is spread out."""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning.fabric import Fabric

from dermino.pretrain.config import PretrainConfig


def build_fabric(config: PretrainConfig) -> Fabric:
    """Set up this process: alone, or as one of ``torchrun``'s or SLURM's.

    One process drives one device; with ``torchrun`` on CPUs the processes talk through gloo.
    """
    accelerator = "cuda" if torch.cuda.is_available() else "cpu"
    options: dict[str, Any] = {"accelerator": accelerator, "devices": 1}
    if "TORCHELASTIC_RUN_ID" in os.environ:
        local = int(os.environ["LOCAL_WORLD_SIZE"])
        options["devices"] = local
        options["num_nodes"] = int(os.environ["WORLD_SIZE"]) // local
        options["strategy"] = "ddp"
    fabric = Fabric(precision=resolve_precision(config, accelerator), **options)
    fabric.launch()
    return fabric


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
    local = max(fabric.world_size // max(int(os.environ.get("GROUP_WORLD_SIZE", "1")), 1), 1)
    return max(min(cores // local - 1, 16), 1)
