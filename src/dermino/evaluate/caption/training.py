"""Training a captioner's projector and adapters, resumable at any step."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dermino.errors import UserError
from dermino.evaluate.caption.captioner import Captioner
from dermino.evaluate.seeding import seeded
from dermino.files import atomic_path
from dermino.progress import console, track

# A checkpoint with the projector of a 7B model and its moments has 0.3 GB.
_SECONDS_BETWEEN_CHECKPOINTS = 60.0
_ORDER = 0  # Keys an epoch's order, where steps are keyed by their number from 1.


@dataclass(frozen=True)
class Optimisation:
    """How a captioner is trained: AdamW at constant rates.

    Parameters
    ----------
    epochs:
        Passes over the training rows.
    projector_rate, adapter_rate:
        Learning rates of the two parts.
    weight_decay:
        Of both.
    batch_size:
        Captions in a step.
    seed:
        Of dropout and the order of captions.
    """

    epochs: int
    projector_rate: float
    adapter_rate: float
    weight_decay: float
    batch_size: int
    seed: int


def train_captioner(
    captioner: Captioner,
    features: Callable[[int], Tensor],
    captions: Sequence[Tensor],
    optimisation: Optimisation,
    checkpoint: Path | None,
) -> None:
    """Minimise the captions' cross-entropy (paper, section 4.2.2).

    Every step draws its random numbers by its own key, so a run that goes on from a checkpoint
    does what the uninterrupted one would have done.

    Parameters
    ----------
    captioner:
        On the device.
    features:
        Gives those of all n training rows in an epoch, (n, D) float32, on the device.
    captions:
        n results of :meth:`Captioner.encode`.
    optimisation:
        How.
    checkpoint:
        File to keep the state in and to go on from, if it is there. None: keep nothing.

    Raises
    ------
    UserError
        If the loss is no longer finite.
    """
    optimiser = torch.optim.AdamW(
        [
            {"params": captioner.projector.parameters(), "lr": optimisation.projector_rate},
            {
                "params": [w for w in captioner.language_model.parameters() if w.requires_grad],
                "lr": optimisation.adapter_rate,
            },
        ],
        weight_decay=optimisation.weight_decay,
    )
    done = _restore(checkpoint, captioner, optimiser) if checkpoint is not None else 0
    steps = -(-len(captions) // optimisation.batch_size)
    current = -1
    losses: list[float] = []
    saved = time.monotonic()
    captioner.train()
    for step in track(range(done, steps * optimisation.epochs), "Steps of the captioner"):
        epoch, number = divmod(step, steps)
        if epoch != current:
            current, losses = epoch, []
            given = features(epoch)
            with seeded(torch.device("cpu"), optimisation.seed, epoch, _ORDER):
                batches = torch.randperm(len(captions)).split(optimisation.batch_size)
        rows = batches[number].tolist()
        with seeded(captioner.device, optimisation.seed, epoch, 1 + number):
            loss = captioner.loss(given[rows], [captions[row] for row in rows])
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
        if not np.isfinite(losses[-1]):
            raise UserError(
                f"The captioner's training diverged at step {step + 1}: its loss is not finite.",
                "Lower --set caption.projector_rate=... and caption.adapter_rate=...",
            )
        if number + 1 == steps:
            console.print(f"Captioner, epoch {epoch + 1}: loss {np.mean(losses):.3f}")
        if checkpoint and time.monotonic() - saved > _SECONDS_BETWEEN_CHECKPOINTS:
            _save(checkpoint, step + 1, captioner, optimiser)
            saved = time.monotonic()
    if checkpoint is not None and done < steps * optimisation.epochs:
        _save(checkpoint, steps * optimisation.epochs, captioner, optimiser)
    captioner.eval()


def _save(path: Path, steps: int, captioner: Captioner, optimiser: torch.optim.Optimizer) -> None:
    state = {
        "steps": steps,
        "weights": {name: weight.detach() for name, weight in captioner.trainable().items()},
        "optimiser": optimiser.state_dict(),
    }
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


@torch.no_grad()
def _restore(path: Path, captioner: Captioner, optimiser: torch.optim.Optimizer) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, map_location=captioner.device, weights_only=True)
    for name, weight in captioner.trainable().items():
        weight.copy_(state["weights"][name])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["steps"])
