"""What a protocol is: how a task is asked of an encoder; and the registry of all protocols.

The contract
------------
A protocol is one file in ``evaluate/protocols/`` with one class, a typed
:class:`dermino.config.Config` whose fields are its parameters, so that users set them with
``--set <name>.<field>=<value>`` and results keep them. The class says for people what it is
(``title``, ``description``), which kinds of task it can answer (``kinds``) and whether it needs
features or works with the encoder itself (``needs``). ``run`` gets a :class:`Trial`, learns from
the training rows, chooses on validation rows only, and answers every test row in their order with
an :class:`Outcome`. It computes no interval and writes no result: values, bootstrap, subgroups and
reasons for undefined values are made in one place (:mod:`dermino.evaluate.scoring`).

- Equal trials give equal outcomes: all randomness comes from ``trial.seed``.
- The encoder is shared with other protocols: copy it (``copy.deepcopy``) before changing it.
- Test rows choose nothing: no epoch, threshold or parameter.
- Long training keeps its checkpoints in ``trial.work`` and goes on from them; the folder is
  removed once the outcome is written. What shall stay (predicted masks) goes to ``trial.files``.
- Bad parameters are refused by the fields' types, bad tasks by :meth:`EvaluationProtocol.check`,
  both before any image is decoded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch

from dermino.config import Config, load_config
from dermino.errors import UserError, unknown
from dermino.evaluate.feature_cache import FeatureCache
from dermino.evaluate.kinds import AnyPredictions
from dermino.evaluate.pooled import Score
from dermino.evaluate.task import Task, TaskKind, file_name
from dermino.models.encoder import Encoder
from dermino.registry import Registry


@dataclass(frozen=True)
class Trial:
    """One encoder asked one task by one protocol.

    Parameters
    ----------
    task:
        What is asked; ``task.manifest`` holds the rows with all their columns.
    features:
        The encoder's features of all n rows, shape (n, D), float32; of shape (n, 0) for a
        protocol that needs the encoder instead.
    seed:
        Seed of everything random.
    device:
        Where to compute.
    encoder:
        The encoder, on the device, frozen and shared. None only where features are all there is.
    work:
        Folder for checkpoints; those of an interrupted trial are still there. None: keep nothing.
    files:
        Folder for what shall stay beside the predictions, empty unless the trial was interrupted;
        make it before use. None: keep nothing.
    cache:
        Feature cache, for features of other images or views; None: compute them.
    batch_size:
        Images in a forward pass of the encoder.
    workers:
        Processes that decode images; None: as many as there are cores.
    """

    task: Task
    features: np.ndarray
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    encoder: Encoder | None = None
    work: Path | None = None
    files: Path | None = None
    cache: FeatureCache | None = None
    batch_size: int = 64
    workers: int | None = None

    def part(self, split: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features (m, D) float32 and targets of a split, on the device.

        Targets are (m,) int64 of a class, (m, C) int64 of labels or (m,) float64 of a number.
        """
        rows = self.task.rows(split)
        features = torch.from_numpy(self.features[rows]).to(self.device)
        return features, torch.from_numpy(self.task.targets[rows]).to(self.device)

    def with_validation(self, share: float = 0.2) -> Trial:
        """Return the trial with validation rows, taken from the training rows if it has none."""
        return replace(self, task=self.task.with_validation(share, self.seed))

    def with_training_rows(self, rows: np.ndarray) -> Trial:
        """Return the trial with a part of its training rows, given by row numbers."""
        return replace(self, task=self.task.with_training_rows(rows))


@dataclass(frozen=True)
class Outcome:
    """What came of a trial.

    Parameters
    ----------
    predictions:
        For the test rows, in their order, of the type that
        :data:`dermino.evaluate.kinds.KINDS` names for the task's kind; they are judged by that
        kind's metrics. None where ``scores`` say all, or nothing can be said.
    columns:
        More to keep for every test row, such as its neighbours, its caption or its predicted mask.
    scores:
        Metrics that the protocol brings itself, by name in the results, such as ``dice``.
    validation:
        Predictions for the validation rows, in the order of ``validation_rows``, where there are
        any: calibration and conformal prediction learn from them.
    validation_rows:
        Their row numbers in the task; default: the rows of its ``val`` split.
    """

    predictions: AnyPredictions | None
    columns: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    scores: Mapping[str, Score] = field(default_factory=dict)
    validation: AnyPredictions | None = None
    validation_rows: np.ndarray | None = None


class EvaluationProtocol(Config, ABC):
    """How a task is asked of an encoder; its fields are its parameters.

    Attributes
    ----------
    title, description:
        For people: a few words, and a sentence with the values that matter.
    kinds:
        The kinds of task it can answer.
    needs:
        ``features`` of all rows, or only the ``encoder``.
    """

    title: ClassVar[str]
    description: ClassVar[str]
    kinds: ClassVar[frozenset[TaskKind]]
    needs: ClassVar[Literal["features", "encoder"]] = "features"

    @property
    def parameters(self) -> dict[str, Any]:
        """The values that results depend on, for JSON; extend it by those that are no fields."""
        return self.model_dump(mode="json")

    def variants(self, name: str) -> Mapping[str, EvaluationProtocol]:
        """Return what is run when it is asked for as ``name``: itself.

        A protocol that stands for several, such as a curve over training sizes, returns each of
        them under a name of its own. Every one of them is a line of the results and resumable.
        """
        return {name: self}

    def can_answer(self, task: Task) -> bool:
        """Whether the task is of a kind it can answer."""
        return task.kind in self.kinds

    def check(self, task: Task) -> None:
        """Raise a UserError if it cannot be asked this task, which is of one of its kinds."""
        return

    def check_environment(self) -> None:
        """Raise a UserError if what it needs beside a task is not here, such as a language model.

        For commands that have long work to do before the protocol is run, which proves it again.
        """
        return

    @abstractmethod
    def run(self, trial: Trial) -> Outcome:
        """Learn from the training rows, if the protocol learns, and answer the test rows."""


PROTOCOLS: Registry[type[EvaluationProtocol]] = Registry(
    "protocol", "dermino.evaluate.protocols", "dermino.protocols"
)


def protocol_alias(spec: str) -> str:
    """Return what results call a protocol asked for as ``NAME`` or ``ALIAS=NAME``."""
    alias, _, name = spec.rpartition("=")
    return file_name(alias or name)


def configure_protocols(
    specs: Iterable[str], settings: Iterable[str] = ()
) -> dict[str, EvaluationProtocol]:
    """Build protocols by name, with their parameters.

    Parameters
    ----------
    specs:
        Names of :data:`PROTOCOLS`; ``ALIAS=NAME`` asks for one under another name, so that it can
        be asked twice with different parameters.
    settings:
        ``name.parameter=value`` texts, by name or alias.

    Returns
    -------
    dict
        By the name that results use; a protocol that stands for several is replaced by them.

    Raises
    ------
    UserError
        For an unknown protocol or parameter, a value out of range, or a name given twice.
    """
    classes: dict[str, type[EvaluationProtocol]] = {}
    for spec in dict.fromkeys(specs):
        alias, name = protocol_alias(spec), spec.rpartition("=")[2]
        if alias in classes:
            raise UserError(f"Two protocols are called '{alias}'.", "Choose another name for one.")
        classes[alias] = PROTOCOLS.get(name)
    own: dict[str, list[str]] = {name: [] for name in classes}
    for setting in settings:
        name, _, rest = setting.partition(".")
        if name not in own:
            raise unknown("protocol in --set", name, own)
        if "=" not in rest:
            raise UserError(f"Cannot read --set '{setting}'.", "Write it as PROTOCOL.KEY=VALUE.")
        own[name].append(rest)
    result: dict[str, EvaluationProtocol] = {}
    for alias, kind in classes.items():
        for name, protocol in load_config(kind, None, own[alias]).variants(alias).items():
            if name in result:
                raise UserError(f"Two protocols are called '{name}'.", "Ask for one of them.")
            result[name] = protocol
    return result
