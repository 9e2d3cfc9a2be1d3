"""Seconds of a training step, lightly-train's DINOv2 against dermino's.

Run: python benchmarks/step.py [--architecture vits14] [--batch-size 8] [--prototypes 4096] ...
Both get the same ready views (2 of 224 px and 8 of 98 px an image) and do all that turns them
into new weights: masks, teacher, student, losses, gradients, clipping, AdamW, moving average.
Equal for both: a separate head for patches, Sinkhorn-Knopp, drop path 0.3, precision.
On a CPU CPU-seconds are counted, on a GPU seconds; the two take turns, and a ratio is the median of
what the turns gave. Each has a process of its own, as its users run it: in one they would share a
heap, where one of them pays for the pages that the other steps on. Where a process's memory lies
alone makes its steps some percent faster or slower, so the ratio is taken of several pairs of
processes (--pairs), one after the other. With --only one contestant runs alone.
The knowledge loss, which lightly-train has not, is timed apart and printed as a share of dermino's
step.
Needs the extra ``benchmark``; lightly-train is under the AGPL and no part of dermino.
"""

from __future__ import annotations

import argparse
import platform
import resource
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from importlib.metadata import version
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from lightly.utils.scheduler import cosine_schedule
from lightly_train._methods.dinov2.dinov2 import DINOv2, DINOv2AdamWViTArgs, DINOv2Args
from lightly_train._models.dinov2_vit.dinov2_vit_package import DINOV2_VIT_PACKAGE
from lightly_train._models.dinov2_vit.dinov2_vit_src.layers.block import Block
from lightly_train._models.embedding_model import EmbeddingModel
from lightly_train._torch_helpers import update_momentum

from dermino.models.patch_selection import PatchSelection
from dermino.pretrain.allocator import freed_memory_kept
from dermino.pretrain.backbone import build_backbone
from dermino.pretrain.batch import Batch
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.launch import build_fabric
from dermino.pretrain.method import METHODS
from dermino.pretrain.objectives.knowledge import DiseasePrototypes, knowledge_loss
from dermino.pretrain.schedules import Length
from dermino.pretrain.trainer import Trainer
from dermino.pretrain.views.masking import block_mask, masked_patch_targets

GLOBAL, LOCAL, LOCAL_CROPS = 224, 98, 8
WARMUP = 3
CONTESTANTS = ("lightly-train", "dermino")
ARCHITECTURES = {"vits14": "vit_small_patch14_dinov2", "vitb14": "vit_base_patch14_dinov2"}


class LightlyTrain:
    """lightly-train's DINOv2 method under the Lightning hooks its command runs it with."""

    def __init__(self, options: argparse.Namespace) -> None:
        model = DINOV2_VIT_PACKAGE.get_model(
            options.architecture,
            model_args={"drop_path_rate": options.drop_path, "drop_path_uniform": True},
            load_weights=False,
        )
        embedding = EmbeddingModel(DINOV2_VIT_PACKAGE.get_model_wrapper(model))
        arguments = DINOv2Args(
            ibot_separate_head=True,
            center_method="sinkhorn_knopp",
            output_dim=options.prototypes,
            weight_decay_start=0.04,
        )
        self.method = DINOv2(
            arguments, DINOv2AdamWViTArgs(), embedding, options.batch_size, num_input_channels=3
        ).to(options.device)
        # The only things of Lightning's trainer that a step asks for.
        self.method._trainer = SimpleNamespace(
            global_step=0, max_epochs=1, estimated_stepping_batches=1000, precision="32-true"
        )
        self.method.log = self.method.log_dict = lambda *_, **__: None
        (self.optimizer,), _ = self.method.configure_optimizers()
        self.method.train()
        self.method.teacher_embedding_model.eval()
        self.method.teacher_head.eval()
        self.mixed = options.precision == "bf16-mixed"
        if options.compile:
            for block in (module for module in self.method.modules() if isinstance(module, Block)):
                block.forward = torch.compile(block.forward)

    def step(self, views: list[torch.Tensor]) -> float:
        """Take one step on 2 global and the local views, each (B, 3, S, S)."""
        with torch.autocast(views[0].device.type, torch.bfloat16, enabled=self.mixed):
            loss = self.method.training_step_impl({"views": views}, 0).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.method.parameters(), 3.0)
        self.method.on_before_optimizer_step(self.optimizer)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        momentum = cosine_schedule(0, 1000, 0.992, 1.0)
        update_momentum(
            self.method.student_embedding_model, self.method.teacher_embedding_model, momentum
        )
        update_momentum(self.method.student_head, self.method.teacher_head, momentum)
        return float(loss.detach())


class Dermino:
    """The step of dermino's trainer, masks drawn as its loader draws them."""

    def __init__(self, options: argparse.Namespace) -> None:
        config = PretrainConfig.model_validate(
            {
                "method": "dinov2",
                "model": {
                    "architecture": ARCHITECTURES[options.architecture],
                    "drop_path": options.drop_path,
                },
                "head": {"num_prototypes": options.prototypes},
                "batch_size_per_device": options.batch_size,
                "precision": options.precision,
                "compile": options.compile,
                "steps": 1000,
            }
        )
        backbone = build_backbone(config.model, config.views, seed=0)
        method = METHODS.get(config.method)(config, backbone, None)
        dataset: Any = SimpleNamespace(batch_size=options.batch_size)
        length = Length.of(config, 1000 * options.batch_size, options.batch_size)
        self.trainer = Trainer(
            build_fabric(config), config, method, dataset, None, length, Path(".")
        )
        self.trainer.module.train()
        self.values = self.trainer.schedules.at(0)
        self.random = np.random.default_rng(0)
        self.options = options

    def step(self, views: list[torch.Tensor]) -> float:
        """Take one step on 2 global and the local views, each (B, 3, S, S)."""
        terms = self.trainer.take_step([self.batch(views)], self.values)
        return float(sum(terms.values()))

    def batch(self, views: list[torch.Tensor]) -> Batch:
        """Return the views as a batch with new masks."""
        size = self.options.batch_size
        grid = (GLOBAL // 14, GLOBAL // 14)
        counts = masked_patch_targets(2 * size, grid[0] * grid[1], 0.5, (0.1, 0.5), self.random)
        blocks = [block_mask(grid, int(count), self.random).ravel() for count in counts]
        masks = torch.from_numpy(np.stack(blocks))
        nothing = torch.empty(0)
        no_labels = torch.empty(size, 0, dtype=torch.uint8)
        return Batch(
            global_crops=torch.cat(views[:2]),
            local_crops=torch.cat(views[2:]),
            global_photometric=nothing,
            local_photometric=nothing,
            masks=masks,
            masked=PatchSelection.of(masks),
            targets=no_labels,
            known=no_labels,
            rows=torch.arange(size),
            unreadable=(),
            failure="",
        ).to(self.trainer.fabric.device)


class Knowledge:
    """The knowledge loss alone: prototypes, Eq. 6 on both global crops, gradients."""

    def __init__(self, options: argparse.Namespace, embed_dim: int) -> None:
        crops, device = 2 * options.batch_size, options.device
        self.prototypes = DiseasePrototypes(torch.randn(options.concepts, embed_dim)).to(device)
        self.features = torch.randn(crops, embed_dim, device=device, requires_grad=True)
        self.targets = torch.eye(crops, options.concepts, dtype=torch.uint8, device=device)
        self.known = torch.ones_like(self.targets)

    def step(self, _: list[torch.Tensor]) -> None:
        """Compute loss and gradients."""
        knowledge_loss(self.prototypes(self.features), self.targets, self.known).backward()


class Contestant:
    """What one process measures: its own step and, beside dermino's, the knowledge loss."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        self.device = options.device
        sizes = [GLOBAL] * 2 + [LOCAL] * LOCAL_CROPS
        self.views = [
            torch.randn(options.batch_size, 3, size, size, device=self.device) for size in sizes
        ]
        self.steps: dict[str, Callable[[list[torch.Tensor]], Any]] = {}
        if name == "lightly-train":
            self.steps[name] = LightlyTrain(options).step
        else:
            dermino = Dermino(options)
            self.steps[name] = dermino.step
            self.steps["knowledge"] = Knowledge(
                options, dermino.trainer.method.encoder.embed_dim
            ).step

    def seconds(self) -> dict[str, float]:
        """Take each step once: seconds of the processor on a CPU, of the clock on a GPU."""
        taken = {}
        for name, step in self.steps.items():
            start = self._now()
            step(self.views)
            taken[name] = self._now() - start
        return taken

    def peak(self) -> float:
        """Return the most memory there was in use, in GiB: the process's, or that of the GPU."""
        if self.device.type == "cpu":
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return torch.cuda.max_memory_allocated() / 2**30

    def _now(self) -> float:
        if self.device.type == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


def serve(pipe: Connection, name: str, options: argparse.Namespace) -> None:
    """Build a contestant and answer what it is asked, until nobody is there to ask."""
    contestant = Contestant(name, options)
    # As dermino's trainer does for all its steps.
    memory = freed_memory_kept(options.device) if name == "dermino" else nullcontext()
    with memory, suppress(EOFError):
        while True:
            pipe.send(getattr(contestant, pipe.recv())())


class Rival:
    """A contestant in a process of its own."""

    def __init__(self, name: str, options: argparse.Namespace) -> None:
        spawn = get_context("spawn")
        self.pipe, end = spawn.Pipe()
        self.process = spawn.Process(target=serve, args=(end, name, options), daemon=True)
        self.process.start()
        end.close()

    def ask(self, question: str) -> Any:
        """Return what the contestant's method of this name does."""
        self.pipe.send(question)
        return self.pipe.recv()

    def dismiss(self) -> None:
        """Let the process end."""
        self.pipe.close()
        self.process.join()


def measure(options: argparse.Namespace) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Return the seconds of each step and the peaks of memory, in processes started for it."""
    names = [options.only] if options.only else CONTESTANTS
    rivals = {name: Rival(name, options) for name in names}
    seconds: dict[str, list[float]] = {}
    for round_ in range(WARMUP + options.rounds):
        for rival in rivals.values():
            for name, taken in rival.ask("seconds").items():
                if round_ >= WARMUP:
                    seconds.setdefault(name, []).append(taken)
    peaks = {name: rival.ask("peak") for name, rival in rivals.items()}
    for rival in rivals.values():
        rival.dismiss()
    return seconds, peaks


def ratio(seconds: dict[str, list[float]]) -> float:
    """Return dermino's share of lightly-train's time, the median over their turns."""
    return float(np.median(np.divide(seconds["dermino"], seconds["lightly-train"])))


def main() -> None:
    """Time both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", choices=ARCHITECTURES, default="vits14")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--prototypes", type=int, default=4096)
    parser.add_argument("--drop-path", type=float, default=0.3)
    parser.add_argument("--concepts", type=int, default=602, help="of the knowledge loss")
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="32-true")
    parser.add_argument("--compile", action="store_true", help="the blocks of both")
    parser.add_argument("--only", choices=CONTESTANTS, help="measure one of them alone")
    parser.add_argument("--rounds", type=int, default=7, help="steps that count, of each")
    parser.add_argument("--pairs", type=int, default=5, help="times to start both anew")
    options = parser.parse_args()
    options.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    pairs = []
    for pair in range(options.pairs):
        pairs.append(measure(options))
        if options.only is None:
            print(f"pair {pair + 1}: {ratio(pairs[-1][0]):.3f}", flush=True)
    kind = "CPU-seconds" if options.device.type == "cpu" else "seconds"
    print(
        f"{options.architecture}, batch {options.batch_size}, K={options.prototypes}, "
        f"{options.precision}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"lightly-train {version('lightly-train')}, {platform.processor() or platform.machine()}"
    )
    typical = {
        name: median(taken for seconds, _ in pairs for taken in seconds[name])
        for name in pairs[0][0]
    }
    for name in pairs[0][1]:
        rate, peak = options.batch_size / typical[name], max(peaks[name] for _, peaks in pairs)
        print(
            f"{name:14} {typical[name]:8.3f} {kind} a step, {rate:,.1f} images a second, "
            f"peak {peak:.1f} GiB"
        )
    if "dermino" in typical:
        share = typical["knowledge"] / typical["dermino"]
        print(f"the knowledge loss on {options.concepts} concepts: {share:.3%} of dermino's step")
    if options.only is None:
        ratios = [ratio(seconds) for seconds, _ in pairs]
        print(
            f"dermino takes {median(ratios):.3f} of lightly-train's {kind} "
            f"({min(ratios):.3f} to {max(ratios):.3f} in {len(ratios)} pairs of processes)"
        )


if __name__ == "__main__":
    main()
