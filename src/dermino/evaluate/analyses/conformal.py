"""Conformal prediction: answers that are sets of diagnoses, with a promised coverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Annotated, Any, ClassVar, NamedTuple

import numpy as np
from pydantic import Field

from dermino.evaluate.analyses.calibration import NO_VALIDATION
from dermino.evaluate.analysis import ANALYSES, Analysis, Answered
from dermino.evaluate.calibration.conformal import (
    ConformalScore,
    Method,
    fewest_images,
    prediction_sets,
)
from dermino.evaluate.calibration.reliability import not_probabilities
from dermino.evaluate.classification import Predictions
from dermino.evaluate.groupwise import (
    Judged,
    Row,
    divisions,
    joined,
    measure,
    measure_groups,
    undefined,
)
from dermino.evaluate.pooled import PooledScore
from dermino.evaluate.subgroups import AGE_EDGES, Division
from dermino.evaluate.task import TaskKind


@ANALYSES.register("conformal")
class Conformal(Analysis):
    """Coverage and size of conformal prediction sets, learnt on validation predictions.

    Metrics are called ``<method>_<coverage>_coverage`` and so on, with ``_by_class`` after the
    method for class-conditional sets. Coverage and size are also given by group of patients and,
    as subgroup ``class=NAME``, by true class.

    Parameters
    ----------
    methods:
        ``lac``, ``aps``, ``raps``.
    coverages:
        Promised coverages.
    class_conditional:
        Also make sets whose coverage holds for every class.
    penalty, rank:
        Of ``raps``.
    columns:
        Manifest columns to divide by. Default: those of the task, else skin type, sex and age.
    age_edges:
        First age of every band but the youngest.
    """

    title: ClassVar[str] = "Conformal prediction"
    description: ClassVar[str] = (
        "Split conformal prediction sets (LAC, APS, RAPS), marginal and class-conditional: how "
        "often they hold the true class, and how many classes they name; also by group and class."
    )
    kinds: ClassVar[frozenset[TaskKind]] = frozenset({"classification", "ordinal"})

    methods: tuple[Method, ...] = Field(("lac", "aps"), min_length=1)
    coverages: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field((0.9,), min_length=1)
    class_conditional: bool = True
    penalty: float = Field(0.01, ge=0)
    rank: int = Field(5, ge=0)
    columns: tuple[str, ...] | None = None
    age_edges: tuple[float, ...] = Field(AGE_EDGES, min_length=1)

    def rows(self, answered: Answered) -> Sequence[Mapping[str, Any]]:
        """Return coverage and size of every kind of set, for all and by group and class."""
        predictions, validation = answered.predictions, answered.validation
        if not isinstance(predictions, Predictions):
            raise TypeError("conformal prediction looks at predictions of classes")
        if not isinstance(validation, Predictions):
            return [undefined(self._variants()[0].name, len(predictions), NO_VALIDATION)]
        problem = not_probabilities(predictions) or not_probabilities(validation)
        if problem:
            return [undefined(self._variants()[0].name, len(predictions), problem)]
        found = [
            *divisions(answered, self.columns, self.age_edges),
            Division("class", tuple(predictions.classes), predictions.targets),
        ]
        rows: list[Row] = []
        for variant in self._variants():
            score = ConformalScore(variant.method, self.penalty, self.rank, answered.bootstrap.seed)
            sets = prediction_sets(
                validation, predictions.scores, score, variant.coverage, variant.by_class
            )
            judged = _judged(variant.name, sets, predictions.targets)
            note = _too_few(validation, variant)
            everybody = measure(judged, answered)
            rows += [{**row, "note": joined(row["note"], note)} for row in everybody]
            rows += measure_groups(judged[:2], answered, found)
        return rows

    def _variants(self) -> list[_Variant]:
        kinds = (False, True) if self.class_conditional else (False,)
        return [_Variant(*chosen) for chosen in product(self.methods, kinds, self.coverages)]


class _Variant(NamedTuple):
    method: Method
    by_class: bool
    coverage: float

    @property
    def name(self) -> str:
        return f"{self.method}{'_by_class' if self.by_class else ''}_{self.coverage:g}"


def _judged(name: str, sets: np.ndarray, targets: np.ndarray) -> list[Judged]:
    size = sets.sum(axis=1)
    values = {
        "coverage": sets[np.arange(len(sets)), targets],
        "set_size": size,
        "one_class": size == 1,
        "empty": size == 0,
    }
    return [
        Judged.score(f"{name}_{what}", PooledScore.mean(what, own)) for what, own in values.items()
    ]


def _too_few(validation: Predictions, variant: _Variant) -> str:
    """Name the classes that have too few validation images for a bound, or say that all have."""
    needed = fewest_images(variant.coverage)
    if not variant.by_class:
        few = len(validation) < needed
        return f"sets hold every class: {needed} validation images are needed" if few else ""
    counts = np.bincount(validation.targets, minlength=len(validation.classes))
    pairs = zip(validation.classes, counts, strict=True)
    names = ", ".join(f"{name} ({count})" for name, count in pairs if count < needed)
    return f"in every set for want of {needed} validation images: {names}" if names else ""
