"""Arithmetic of a pretraining step, counted, and what runs of several sizes come to.

Run: python benchmarks/cost.py [--recipe dermino-vitb14] [--batch-size 16] [--set key=value ...]
                               [--tflops 989 --utilisation 0.3 0.5]
Counts the multiplications and additions (two operations each) of one real step on the CPU with
PyTorch's counter: teacher, student, heads, gradients. Hours follow from a GPU's peak and the share
of it that is reached, which is to be measured with benchmarks/step.py; here it is only assumed.
"""

from __future__ import annotations

import argparse

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from dermino.config import load_config
from dermino.pretrain.backbone import build_backbone
from dermino.pretrain.batch import Batch
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.method import METHODS, Method
from dermino.pretrain.schedules import Length, Schedules
from dermino.pretrain.stochastic_depth import StochasticDepth

# Name, images the run is shown in all. The paper's is 40,000 steps of 2,048.
RUNS = (
    ("the paper's run: 432,776 images, 189 passes", 40_000 * 2048),
    ("2 million images, 41 passes (as many steps)", 40_000 * 2048),
    ("2 million images, 100 passes", 200_000_000),
    ("100 million images, 1 pass", 100_000_000),
    ("100 million images, 10 passes", 1_000_000_000),
)


def count(config: PretrainConfig, method: Method, size: int) -> float:
    """Return the operations of one step for each image, forward and backward."""
    patch_size = method.encoder.patch_embed.patch_size[0]
    batch = Batch.blank(method.views(config), patch_size, size)
    depth = StochasticDepth(config.model.drop_path, len(method.encoder.blocks), config.seed)
    values = Schedules(config, Length.of(config, size, size), size).at(0)
    batch = depth.apply(batch.augmented(), 0, 0, size)
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        torch.stack(list(method(batch, values).values())).sum().backward()
    return counter.get_total_flops() / size


def main() -> None:
    """Print the count and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", default="dermino-vitb14")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--set", nargs="*", default=[], dest="overrides")
    parser.add_argument("--tflops", type=float, default=989.0, help="peak of one GPU, bf16, dense")
    parser.add_argument("--utilisation", type=float, nargs="+", default=[0.3, 0.5])
    options = parser.parse_args()
    config = load_config(PretrainConfig, options.recipe, [*options.overrides, "model.init=null"])
    backbone = build_backbone(config.model, config.views, config.seed)
    method = METHODS.get(config.method)(config, backbone, None).train()
    operations = count(config, method, options.batch_size)
    print(
        f"{options.recipe}: {operations / 1e12:.3f} Tera operations an image, "
        f"torch {torch.__version__}"
    )
    for share in options.utilisation:
        rate = share * options.tflops * 1e12 / operations
        print(f"at {share:.0%} of {options.tflops:g} TFLOP/s: {rate:,.0f} images/s a GPU")
        for name, images in RUNS:
            hours = images / rate / 3600
            print(f"  {name}: {images * operations:.2e} operations, {hours:,.0f} GPU hours")


if __name__ == "__main__":
    main()
