"""Calibration: whether an image said to be a melanoma at 80 % is one in 80 of 100 cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from dermino.evaluate.analysis import ANALYSES, Analysis, Answered
from dermino.evaluate.calibration.reliability import (
    BINS,
    Bins,
    brier_score,
    confidence,
    correct,
    expected_calibration_error,
    maximum_calibration_error,
    negative_log_likelihood,
    not_probabilities,
)
from dermino.evaluate.calibration.temperature import fit_temperature
from dermino.evaluate.classification import Predictions
from dermino.evaluate.groupwise import (
    Judged,
    Row,
    divisions,
    joined,
    measure,
    too_few,
    undefined,
)
from dermino.evaluate.pooled import PooledScore
from dermino.evaluate.results import EVERYBODY
from dermino.evaluate.subgroups import AGE_EDGES
from dermino.evaluate.task import TaskKind

NO_VALIDATION = (
    "no validation predictions to learn from: give the manifest a val split (dermino data split "
    "--val) and use a protocol that answers it"
)


@ANALYSES.register("calibration")
class Calibration(Analysis):
    """Calibration errors, Brier score and likelihood, before and after temperature scaling.

    Metrics after scaling are called ``scaled_...``. A reliability diagram is in the rows whose
    subgroup is ``confidence LOW-HIGH`` (after scaling: ``scaled_confidence ...``), one a bin with
    any image: ``accuracy``, ``mean_confidence`` and n.

    Parameters
    ----------
    bins:
        Bins of confidence.
    columns:
        Manifest columns to divide by. Default: those of the task, else skin type, sex and age.
    age_edges:
        First age of every band but the youngest.
    """

    title: ClassVar[str] = "Calibration"
    description: ClassVar[str] = (
        "Expected calibration error with bins of equal width and of equal mass, maximum "
        "calibration error, Brier score, negative log likelihood and a reliability table, before "
        "and after temperature scaling on validation predictions; also by group."
    )
    kinds: ClassVar[frozenset[TaskKind]] = frozenset({"classification", "ordinal"})

    bins: int = Field(BINS, ge=2)
    columns: tuple[str, ...] | None = None
    age_edges: tuple[float, ...] = Field(AGE_EDGES, min_length=1)

    def rows(self, answered: Answered) -> Sequence[Mapping[str, Any]]:
        """Return errors, likelihoods and bins for all images, and the former for every group."""
        predictions, validation = answered.predictions, answered.validation
        if not isinstance(predictions, Predictions):
            raise TypeError("calibration looks at predictions of classes")
        problem = not_probabilities(predictions)
        if problem:
            return [undefined("ece", len(predictions), problem)]
        rows = self._of(predictions, answered, "")
        if not isinstance(validation, Predictions):
            return [*rows, undefined("temperature", 0, NO_VALIDATION)]
        problem = not_probabilities(validation)
        if problem:
            return [*rows, undefined("temperature", len(validation), f"validation: {problem}")]
        temperature = fit_temperature(validation)
        row = undefined("temperature", len(validation), temperature.note)
        rows.append(row | {"value": temperature.value})
        if np.isnan(temperature.value):
            return rows
        return rows + self._of(temperature.apply(predictions), answered, "scaled_")

    def _of(self, predictions: Predictions, answered: Answered, prefix: str) -> list[Row]:
        everybody = {EVERYBODY: np.arange(len(predictions))}
        groups = [own.parts() for own in divisions(answered, self.columns, self.age_edges)]
        rows = [
            row
            for parts in (everybody, *groups)
            for subgroup, members in parts.items()
            for row in measure(
                self._judged(predictions, prefix, members), answered, members, subgroup
            )
        ]
        rows = [{**row, "note": joined(row["note"], too_few(row["n"]))} for row in rows]
        return rows + self._reliability(predictions, answered, prefix)

    def _judged(self, predictions: Predictions, prefix: str, members: np.ndarray) -> list[Judged]:
        width = Bins.equal_width(self.bins)
        mass = Bins.equal_mass(confidence(predictions)[members], self.bins)
        errors = {
            "ece": expected_calibration_error(predictions, width),
            "adaptive_ece": expected_calibration_error(predictions, mass),
            "mce": maximum_calibration_error(predictions, width),
        }
        averages = {"brier": brier_score(predictions), "nll": negative_log_likelihood(predictions)}
        return [
            *(Judged.score(f"{prefix}{name}", own, basic=True) for name, own in errors.items()),
            *(Judged.score(f"{prefix}{name}", own) for name, own in averages.items()),
        ]

    def _reliability(self, predictions: Predictions, answered: Answered, prefix: str) -> list[Row]:
        values = confidence(predictions)
        bins = Bins.equal_width(self.bins)
        judged = [
            Judged.score("accuracy", PooledScore.mean("Accuracy", correct(predictions))),
            Judged.score("mean_confidence", PooledScore.mean("Mean confidence", values)),
        ]
        found = bins.of(values)
        rows: list[Row] = []
        for number, name in enumerate(bins.names()):
            members = np.flatnonzero(found == number)
            if len(members):
                rows += measure(judged, answered, members, f"{prefix}confidence {name}")
        return rows
