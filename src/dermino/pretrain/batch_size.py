"""How many images a device gets: a number, or what fits."""

from __future__ import annotations

import copy
import gc
import math
import os
from collections.abc import Callable

import torch

from dermino.errors import UserError
from dermino.pretrain.batch import Batch
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.distributed import all_reduce_max, alone, world_size
from dermino.pretrain.fabric import Fabric
from dermino.pretrain.launch import processes_per_node, resolve_precision
from dermino.pretrain.method import Method
from dermino.pretrain.parameter_groups import parameter_groups
from dermino.pretrain.plan import memory_gib
from dermino.pretrain.schedules import Length, Schedules
from dermino.pretrain.stochastic_depth import StochasticDepth
from dermino.progress import console

# What stays free on a GPU: masks and dropped paths differ from step to step, and memory fragments.
_GPU_MARGIN = 0.1
# Of the memory that is free on a CPU: the loader and everybody else need some too.
_CPU_SHARE = 0.5
# More images than this at once make no CPU faster.
_CPU_MOST = 64
# A full GPU speaks through whichever library asked for memory, not always in PyTorch's own words.
_NO_MEMORY = ("out of memory", "STATUS_ALLOC_FAILED")


def settle_batch_size(
    config: PretrainConfig, fabric: Fabric, method: Method, num_images: int
) -> PretrainConfig:
    """Replace ``batch_size_per_device: auto`` by the number that fits, and say why.

    On a GPU whole steps (forward, backward, optimiser, teacher) of a copy of the method are taken
    with more and more blank images until the memory is full but for a tenth; the smallest device
    decides. On a CPU it is what half of the free memory is estimated to hold, 64 at most.

    Parameters
    ----------
    config, method:
        The recipe, and what it trains; both stay as they are.
    fabric:
        The device.
    num_images:
        Images there are; a batch over all devices holds no more.

    Raises
    ------
    UserError
        If not even one image fits.
    """
    if config.batch_size_per_device != "auto":
        return config
    most = max(num_images // (fabric.world_size * config.accumulate_grad_batches), 1)
    if fabric.device.type == "cuda":
        limit = _gpu_limit(method, fabric)
        number = largest_fitting(lambda n: _fits(config, fabric, method, n, limit), most)
        reason = f"steps that were tried take up to {limit / 2**30:.1f} GiB of the GPU's memory"
    else:
        limit = _CPU_SHARE * _free_memory() / processes_per_node()
        number = largest_fitting(
            lambda n: (
                memory_gib(config, method, resolve_precision(config, "cpu"), n) * 2**30 <= limit
            ),
            min(most, _CPU_MOST),
        )
        reason = f"half of the free memory is {limit / 2**30:.1f} GiB, and {_CPU_MOST} are enough"
    number = -int(all_reduce_max(torch.tensor(-number, device=fabric.device)))
    if number == 0:
        raise UserError(
            "Not even one image fits into the memory of a device.",
            "Use --set model.checkpoint_activations=true, smaller views or a smaller architecture.",
        )
    if fabric.is_global_zero:
        console.print(f"batch_size_per_device: auto takes {number}: {reason}.")
    return config.model_copy(update={"batch_size_per_device": number})


def largest_fitting(fits: Callable[[int], bool], most: int) -> int:
    """Return about the largest number up to ``most`` that fits, within a sixteenth; 0 = none.

    From 16 on a multiple of 8, which matrix units like.
    """
    low, high = 0, 1
    while high <= most and fits(high):
        low, high = high, 2 * high
    high = min(high, most + 1)
    while high - low > max(low // 16, 1):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low - low % 8 if low >= 16 else low


def take_blank_steps(config: PretrainConfig, fabric: Fabric, method: Method, size: int) -> None:
    """Take two steps of a copy of a method with ``size`` blank images, for what they need.

    The second one has the optimiser's moments. Other processes are not waited for.
    """
    probe = copy.deepcopy(method).to(fabric.device).train()
    optimizer = torch.optim.AdamW(
        parameter_groups(probe.rules()), lr=0.0, fused=fabric.device.type == "cuda"
    )
    values = Schedules(config, Length.of(config, size, size), size).at(0)
    depth = StochasticDepth(config.model.drop_path, len(probe.encoder.blocks), config.seed)
    accumulated = config.accumulate_grad_batches > 1
    views, patch_size = probe.views(config), probe.encoder.patch_embed.patch_size[0]
    for number in range(2):
        batch = Batch.blank(views, patch_size, size, probe.num_concepts)
        batch = depth.apply(batch.to(fabric.device).augmented(), number, 0, size)
        with fabric.autocast():
            terms = probe(batch, values)
        torch.stack(list(terms.values())).sum().backward()
        for module in probe.clipped():
            torch.nn.utils.clip_grad_norm_(module.parameters(), math.inf)
        optimizer.step()
        probe.after_step(values)
        # Where gradients are accumulated, those of earlier batches stay during the next.
        if not accumulated:
            optimizer.zero_grad(set_to_none=True)


def _fits(config: PretrainConfig, fabric: Fabric, method: Method, size: int, limit: float) -> bool:
    try:
        torch.cuda.reset_peak_memory_stats(fabric.device)
        with alone():
            take_blank_steps(config, fabric, method, max(size, method.fewest_images))
        return torch.cuda.max_memory_reserved(fabric.device) <= limit
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        gc.collect()
        torch.cuda.empty_cache()


def is_out_of_memory(error: RuntimeError) -> bool:
    """Tell whether a device had no memory left, which cuBLAS and cuDNN say in their own words."""
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(
        words in str(error) for words in _NO_MEMORY
    )


def _gpu_limit(method: Method, fabric: Fabric) -> float:
    free, _ = torch.cuda.mem_get_info(fabric.device)
    # DistributedDataParallel keeps the gradients a second time, in the buckets that it sends.
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    buckets = 4 * trained if world_size() > 1 else 0
    return (1 - _GPU_MARGIN) * free - buckets


def _free_memory() -> int:
    """Return the bytes of memory nobody uses."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError) as error:
        raise UserError(
            "This system does not say how much memory is free.",
            "Use --set batch_size_per_device=NUMBER.",
        ) from error
