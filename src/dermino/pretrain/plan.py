"""What a run is going to do, worked out and shown before its first step."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from rich.table import Table

from dermino.data.manifest import Manifest
from dermino.errors import UserError
from dermino.knowledge.encoded_labels import EncodedLabels
from dermino.knowledge.taxonomy import Taxonomy
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.method import Method
from dermino.pretrain.order import source_shares
from dermino.pretrain.schedules import Length, scaled_lr
from dermino.progress import console

FILE_NAME = "plan.json"
# Bytes kept for the backward pass per token, channel and block: residual stream and norms, qkv and
# attention output, layer scale, the four-fold hidden layer before and after GELU.
_ACTIVATION_BYTES = {"32-true": 72, "bf16-mixed": 48}
_RESIDUAL_BYTES = 4
# Logits, their scaled float32 copy and the gradient.
_LOGIT_BYTES = 12


@dataclass(frozen=True)
class Plan:
    """The facts of a run before it starts.

    Parameters
    ----------
    sources:
        Images and labelled images of each dataset.
    shares:
        What part of the images shown comes from each dataset.
    concepts:
        Disease prototypes; 0 without a taxonomy.
    taxonomy:
        The taxonomy's fingerprint; None without one.
    batch_size:
        Images of one step over all devices.
    accumulate_grad_batches:
        In how many parts a device takes its images of a step.
    peak_lr:
        Learning rate after scaling with the batch.
    first_losses:
        About where the loss terms start that can be told, as ``metrics.jsonl`` names them.
    memory_gib:
        Estimate for one device.
    neighbours:
        What the k-NN accuracy is measured on, in words.
    """

    method: str
    architecture: str
    init: str
    parameters: int
    sources: dict[str, dict[str, int]]
    shares: dict[str, float]
    images: int
    labelled: int
    concepts: int
    taxonomy: str | None
    devices: int
    batch_size: int
    accumulate_grad_batches: int
    steps: int
    epochs: float
    epoch_length: float
    true_epochs: float
    base_lr: float
    peak_lr: float
    precision: str
    first_losses: dict[str, float]
    memory_gib: float
    neighbours: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    def show(self) -> None:
        """Print the plan."""
        table = Table(title="Plan", title_justify="left", show_header=False, box=None)
        for name, counts in self.sources.items():
            labelled, images = counts["labelled"], counts["images"]
            share = f"{self.shares[name]:.1%} of what is shown"
            table.add_row(name, f"{images:,} images, {labelled:,} labelled, {share}")
        table.add_row("all", f"{self.images:,} images, {self.labelled:,} labelled")
        table.add_row("concepts", f"{self.concepts:,}" if self.concepts else "none")
        table.add_row("method", f"{self.method}, {self.architecture} from {self.init}")
        table.add_row("trained", f"{self.parameters / 1e6:.1f} million parameters")
        parts = self.accumulate_grad_batches
        shape = f"{self.devices} x {self.batch_size // self.devices // parts}"
        shape += f" x {parts} accumulated" if parts > 1 else ""
        table.add_row("batch", f"{self.batch_size} images ({shape}), {self.precision}")
        table.add_row(
            "length",
            f"{self.steps:,} steps = {self.epochs:g} epochs of {self.epoch_length:g} steps "
            f"= {self.true_epochs:.1f} passes over the images",
        )
        table.add_row(
            "learning rate", f"{self.base_lr:g} before scaling, {self.peak_lr:.3g} at its peak"
        )
        table.add_row("memory", f"about {self.memory_gib:.1f} GiB a device")
        starts = ", ".join(f"{name} {value:.2f}" for name, value in self.first_losses.items())
        if starts:
            table.add_row("first losses", f"about {starts}")
        table.add_row("k-NN on", self.neighbours)
        console.print(table)


def make_plan(
    config: PretrainConfig,
    manifest: Manifest,
    labels: EncodedLabels | None,
    taxonomy: Taxonomy | None,
    method: Method,
    devices: int,
    precision: str,
    neighbours: str = "",
) -> tuple[Plan, Length]:
    """Work out a run.

    Raises
    ------
    UserError
        If one batch holds more images than there are, or fewer than the method needs.
    """
    batch_size = config.batch_size(devices)
    at_once = batch_size // config.accumulate_grad_batches
    if at_once < method.fewest_images:
        raise UserError(
            f"{config.method} takes at least {method.fewest_images} images at a time.",
            f"Use --set batch_size_per_device={method.fewest_images} or more.",
        )
    if batch_size > len(manifest):
        raise UserError(
            f"A batch of {batch_size} images ({devices} devices x {batch_size // devices}) "
            f"is larger than the data: {len(manifest)} images.",
            "Use --set batch_size_per_device="
            f"{max(len(manifest) // (2 * devices * config.accumulate_grad_batches), 1)} or less.",
        )
    length = Length.of(config, len(manifest), batch_size)
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    sources = count_sources(manifest, labels)
    shares = source_shares([counts["images"] for counts in sources.values()], config.data)
    plan = Plan(
        method=config.method,
        architecture=config.model.architecture,
        init=config.model.init or "random weights",
        parameters=trained,
        sources=sources,
        shares=dict(zip(sources, shares.tolist(), strict=True)),
        images=len(manifest),
        labelled=int(labels.labelled.sum()) if labels is not None else 0,
        concepts=labels.known.shape[1] if labels is not None else 0,
        taxonomy=taxonomy.fingerprint if taxonomy is not None else None,
        devices=devices,
        batch_size=batch_size,
        accumulate_grad_batches=config.accumulate_grad_batches,
        steps=length.steps,
        epochs=config.epochs,
        epoch_length=length.epoch_length,
        true_epochs=length.true_epochs,
        base_lr=config.optimizer.base_lr,
        peak_lr=scaled_lr(config, batch_size),
        precision=precision,
        first_losses=method.first_losses(at_once),
        memory_gib=memory_gib(config, method, precision, at_once // devices, devices),
        neighbours=neighbours,
    )
    return plan, length


def count_sources(manifest: Manifest, labels: EncodedLabels | None) -> dict[str, dict[str, int]]:
    """Count the images of each dataset, and those that supervise."""
    labelled = labels.labelled if labels is not None else np.zeros(len(manifest), dtype=bool)
    frame = manifest.frame[["dataset"]].assign(labelled=labelled)
    groups = frame.groupby("dataset")["labelled"].agg(["size", "sum"])
    return {
        str(name): {"images": int(row["size"]), "labelled": int(row["sum"])}
        for name, row in groups.iterrows()
    }


def memory_gib(
    config: PretrainConfig, method: Method, precision: str, batch_size: int, devices: int = 1
) -> float:
    """Estimate what a device needs for ``batch_size`` images at a time.

    Weights, gradients, Adam's moments (their share of them under FSDP), fixed networks and what
    the backward pass must keep.
    """
    trained = sum(p.numel() for p in method.parameters() if p.requires_grad)
    fixed = sum(p.numel() for p in method.parameters() if not p.requires_grad)
    states = 16.0 * trained + 4 * fixed
    if config.strategy == "fsdp":
        states /= devices
    kept = 1 - config.model.drop_path if config.model.drop_path > 0.1 else 1.0
    activations = method.activations(batch_size) * _ACTIVATION_BYTES[precision] * kept
    if config.model.checkpoint_activations:
        # One block's inside at a time, and what enters each.
        activations /= len(method.encoder.blocks)
        activations += method.activations(batch_size) * _RESIDUAL_BYTES
    scores = method.num_scores(batch_size) * _LOGIT_BYTES
    return (states + activations + scores) / 2**30
