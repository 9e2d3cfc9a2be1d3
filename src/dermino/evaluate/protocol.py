"""What a protocol is, and the registry of all protocols."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import torch

from dermino.evaluate.metrics import Predictions
from dermino.evaluate.task import Task
from dermino.registry import Registry


@dataclass(frozen=True)
class Trial:
    """One encoder asked one task.

    Parameters
    ----------
    task:
        What is asked.
    features:
        The encoder's features of the task's rows, shape (n, D), float32.
    seed:
        Seed of everything random.
    device:
        Where to compute.
    """

    task: Task
    features: np.ndarray
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def part(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features (m, D) float32 and targets (m,) int64 of a split, on the device."""
        rows = self.task.rows(split)
        features = torch.from_numpy(self.features[rows]).to(self.device)
        return features, torch.from_numpy(self.task.targets[rows]).to(self.device)


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Parameters
    ----------
    predictions:
        For the test rows, in their order; None for a task without classes.
    columns:
        More to keep for every test row, such as its neighbours.
    """

    predictions: Predictions | None
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)


class EvaluationProtocol(Protocol):
    """How a task is asked of an encoder.

    Attributes
    ----------
    title, description:
        For people: a few words, and a sentence with the values that matter.
    needs_labels:
        Whether it has nothing to do with a task without classes.
    """

    title: ClassVar[str]
    description: ClassVar[str]
    needs_labels: ClassVar[bool]

    @property
    def parameters(self) -> dict[str, Any]:
        """The values that results depend on, for JSON."""
        ...

    def run(self, trial: Trial) -> Outcome:
        """Learn from the training rows, if the protocol learns, and answer the test rows."""
        ...


PROTOCOLS: Registry[type[EvaluationProtocol]] = Registry(
    "protocol", "dermino.evaluate.protocols", "dermino.protocols"
)
