"""What an analysis is: a second look at kept predictions, such as fairness or calibration."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dermino.config import Config
from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.kinds import AnyPredictions
from dermino.evaluate.task import Task, TaskKind
from dermino.registry import Registry


@dataclass(frozen=True)
class Answered:
    """A task with what one encoder and protocol answered, read back from the results folder.

    Parameters
    ----------
    task:
        The task; ``task.manifest.select(task.rows("test"))`` are the rows of ``predictions``.
    predictions:
        For the test rows, in their order.
    validation:
        For validation rows, where the protocol had any.
    bootstrap:
        How replicates are drawn.
    """

    task: Task
    predictions: AnyPredictions
    validation: AnyPredictions | None
    bootstrap: Bootstrap


class Analysis(Config, ABC):
    """A second look at kept predictions; its fields are its parameters.

    It trains nothing, so it is made afresh on every call, also for cells that are done.

    Attributes
    ----------
    title, description:
        For people.
    kinds:
        The kinds of task it can look at.
    """

    title: ClassVar[str]
    description: ClassVar[str]
    kinds: ClassVar[frozenset[TaskKind]]

    @abstractmethod
    def rows(self, answered: Answered) -> Sequence[Mapping[str, Any]]:
        """Return rows for the results table.

        Each has ``metric``, ``value``, ``ci_low``, ``ci_high``, ``n``, ``note`` and, where it is
        not about everybody, ``subgroup`` (``skin_type=5-6``). An undefined value is NaN with a
        reason in ``note``. A row replaces an earlier one of the same subgroup and metric.
        """


ANALYSES: Registry[type[Analysis]] = Registry(
    "analysis", "dermino.evaluate.analyses", "dermino.analyses"
)
