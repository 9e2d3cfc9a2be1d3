"""Label efficiency, training sizes and few-shot learning: a probe on parts of the data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from dermino.config import load_config
from dermino.evaluate.kinds import KINDS
from dermino.evaluate.pooled import Aggregate
from dermino.evaluate.protocol import PROTOCOLS, EvaluationProtocol, Outcome, Trial
from dermino.evaluate.readout import READABLE
from dermino.evaluate.subsets import learn_from
from dermino.evaluate.task import Task, TaskKind
from dermino.progress import track


class LearningCurve(EvaluationProtocol):
    """A probe that learns from parts of the training rows, drawn several times.

    The first draw's predictions are kept and judged as any protocol's. ``mean_<metric>`` is the
    mean over all draws, its interval the smallest and largest of them; ``training_images`` says
    how many images the first draw had. The validation rows are set aside with the rest.

    Parameters
    ----------
    probe:
        Name of the protocol that learns; one that takes features.
    settings:
        Its parameters, where they are not its defaults.
    draws:
        How often the training rows are drawn.
    """

    kinds: ClassVar[frozenset[TaskKind]] = READABLE

    probe: str = "linear-panderm"
    settings: dict[str, Any] = Field(default_factory=dict)
    draws: int = Field(3, ge=1)

    @model_validator(mode="after")
    def _has_a_probe(self) -> LearningCurve:
        if issubclass(PROTOCOLS.get(self.probe), LearningCurve):
            raise ValueError(f"'{self.probe}' is a curve itself; probe must learn once")
        if self.learner.needs != "features":
            raise ValueError(f"'{self.probe}' does not learn from features")
        return self

    @property
    def learner(self) -> EvaluationProtocol:
        """The probe with its parameters."""
        settings = [f"{key}={value}" for key, value in self.settings.items()]
        return load_config(PROTOCOLS.get(self.probe), None, settings)

    @property
    def parameters(self) -> dict[str, Any]:
        """The curve's values and those of the probe."""
        return {**super().parameters, "settings": self.learner.parameters}

    def can_answer(self, task: Task) -> bool:
        """Whether both the curve and its probe answer the kind."""
        return super().can_answer(task) and self.learner.can_answer(task)

    def check(self, task: Task) -> None:
        """Leave it to the probe."""
        self.learner.check(task)

    @abstractmethod
    def rows(self, task: Task, seed: int, draw: int) -> np.ndarray:
        """Return the training rows of a draw.

        Parameters
        ----------
        task:
            Its training rows are drawn from.
        seed:
            Of the evaluation.
        draw:
            Number of the draw, from 0.
        """

    def run(self, trial: Trial) -> Outcome:
        """Learn from each draw and answer the test rows."""
        samples: list[np.ndarray] = []
        outcomes: list[Outcome] = []
        for draw in track(range(self.draws), f"{self.title}, {trial.task.name}"):
            rows = np.sort(self.rows(trial.task, trial.seed, draw))
            if not any(np.array_equal(rows, other) for other in samples):
                samples.append(rows)
                outcomes.append(self.learner.run(learn_from(trial, rows)))
        count = Aggregate("Training images", len(samples[0]))
        return replace(outcomes[0], scores={"training_images": count, **_means(trial, outcomes)})


def _means(trial: Trial, outcomes: list[Outcome]) -> dict[str, Aggregate]:
    means = {}
    for name, metric in KINDS[trial.task.kind].metrics.items():
        values = [
            metric.value(outcome.predictions)[0]
            for outcome in outcomes
            if outcome.predictions is not None
        ]
        note = f"mean, smallest and largest of {len(values)} draws of the training images"
        means[f"mean_{name}"] = Aggregate(
            f"{metric.title}, mean of draws", float(np.mean(values)), min(values), max(values), note
        )
    return means


def variants_of(
    curve: LearningCurve, name: str, field: str, values: tuple[float, ...]
) -> dict[str, EvaluationProtocol]:
    """Return the curve at each value of a field, as ``name-value``."""
    copy: Callable[..., EvaluationProtocol] = curve.model_copy
    return {f"{name}-{value:g}": copy(update={field: (value,)}) for value in values}
