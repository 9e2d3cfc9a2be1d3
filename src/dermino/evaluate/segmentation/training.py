"""Training a segmentation head on frozen maps, resumable by epoch."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dermino.evaluate.seeding import seeded
from dermino.evaluate.segmentation.feature_maps import FeatureMaps
from dermino.evaluate.segmentation.pixels import Pixels
from dermino.files import atomic_path
from dermino.progress import track

# A checkpoint of UperNet has 0.7 GB; small tasks have epochs of a second.
_SECONDS_BETWEEN_CHECKPOINTS = 30.0


@dataclass(frozen=True)
class Optimisation:
    """How a head is trained.

    Parameters
    ----------
    epochs:
        Passes over the training rows.
    learning_rate:
        Adam's rate in the first epoch; it falls by a cosine from epoch to epoch, towards zero.
    batch_size:
        Images in a step at most; batches of an epoch differ by one image at most.
    seed:
        Of dropped channels and the order of images.
    """

    epochs: int
    learning_rate: float
    batch_size: int
    seed: int


def train_head(
    head: nn.Module,
    maps: FeatureMaps,
    pixels: Pixels,
    rows: np.ndarray,
    optimisation: Optimisation,
    checkpoint: Path,
) -> None:
    """Train a head by cross-entropy of each pixel (paper, section 4.2.3).

    Parameters
    ----------
    head:
        On the device; from maps to logits (B, 2, h, w).
    maps, pixels:
        Of the same images.
    rows:
        Those to learn from.
    optimisation:
        How.
    checkpoint:
        File to keep the state in and to go on from, if it is there.
    """
    device = next(head.parameters()).device
    optimiser = torch.optim.Adam(head.parameters(), lr=optimisation.learning_rate)
    done = _restore(checkpoint, head, optimiser)
    # No batch of one image: the statistics of a map pooled to one position would be undefined.
    batches = max(1, min(-(-len(rows) // optimisation.batch_size), len(rows) // 2))
    saved = time.monotonic()
    head.train()
    for epoch in track(range(done, optimisation.epochs), "Epochs of the segmentation head"):
        rate = optimisation.learning_rate * _cosine(epoch / optimisation.epochs)
        for group in optimiser.param_groups:
            group["lr"] = rate
        with seeded(device, optimisation.seed, epoch):
            order = rows[torch.randperm(len(rows)).numpy()]
            for batch in np.array_split(order, batches):
                target = torch.from_numpy(pixels.lesions(batch)).long().to(device)
                logits = enlarge(head(maps.batch(batch, device)), target.shape[-2:])
                optimiser.zero_grad()
                F.cross_entropy(logits, target).backward()
                optimiser.step()
        if time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
            _save(checkpoint, epoch + 1, head, optimiser)
            saved = time.monotonic()
    head.eval()


def enlarge(logits: Tensor, size: tuple[int, ...] | torch.Size) -> Tensor:
    """Resize logits (B, C, h, w) bilinearly to a mask's (H, W)."""
    return F.interpolate(logits, size, mode="bilinear", align_corners=False)


def _cosine(progress: float) -> float:
    return (1 + math.cos(math.pi * progress)) / 2


def _save(path: Path, epochs: int, head: nn.Module, optimiser: torch.optim.Optimizer) -> None:
    state = {"epochs": epochs, "head": head.state_dict(), "optimiser": optimiser.state_dict()}
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def _restore(path: Path, head: nn.Module, optimiser: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    # On the CPU first: Adam wants its step counts there, and moves all else to the weights.
    state = torch.load(path, map_location="cpu", weights_only=True)
    head.load_state_dict(state["head"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["epochs"])
