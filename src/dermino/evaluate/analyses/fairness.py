"""Fairness: how results differ between groups of patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, model_validator

from dermino.errors import unknown
from dermino.evaluate.analysis import ANALYSES, Analysis, Answered
from dermino.evaluate.classification import Predictions
from dermino.evaluate.fairness.decisions import (
    chosen_classes,
    decide,
    sensitivity_metric,
    specificity_metric,
    specificity_thresholds,
)
from dermino.evaluate.fairness.gaps import (
    Gap,
    GapEstimate,
    demographic_parity_difference,
    equalised_odds_difference,
    estimate_gaps,
    metric_gap,
)
from dermino.evaluate.fairness.positive import POSITIVE, POSITIVE_METRICS, merge
from dermino.evaluate.groupwise import (
    FEW_IMAGES,
    Judged,
    Row,
    classes,
    clusters,
    divisions,
    joined,
    measure,
    measure_groups,
    too_few,
    undefined,
)
from dermino.evaluate.kinds import KINDS, AnyPredictions
from dermino.evaluate.multilabel import MultilabelPredictions
from dermino.evaluate.regression import RegressionPredictions
from dermino.evaluate.subgroups import AGE_EDGES, COLUMNS, Division
from dermino.evaluate.task import TaskKind

_AT = ("sensitivity_at_", "specificity_at_")
_NO_VALIDATION = "threshold chosen on the test images, there are no validation predictions"


@ANALYSES.register("fairness")
class Fairness(Analysis):
    """Metrics by skin type, sex, age and any column, and how far groups are apart (paper, 2.3).

    Parameters
    ----------
    columns:
        Manifest columns to divide by. Default: those of the task, else skin type, sex and age.
    age_edges:
        First age of every band but the youngest.
    metrics:
        Metrics of the task's kind.
    specificity:
        At which sensitivity is compared. One threshold a class, the same for all groups, is chosen
        on validation predictions.
    positive:
        Classes that count as one positive class, such as all malignant ones. Metrics of this
        question are added, called ``positive_...``.
    few_images, few_positives:
        Groups with fewer images, or fewer images of some class, get a warning.
    permutations:
        Random deals of the groups for the p-value of a gap.
    """

    title: ClassVar[str] = "Fairness"
    description: ClassVar[str] = (
        "Metrics by group of patients, the gap between the best and the worst group with a basic "
        "bootstrap interval and a permutation test, equalised odds and demographic parity."
    )
    kinds: ClassVar[frozenset[TaskKind]] = frozenset({"classification", "ordinal", "multilabel"})

    columns: tuple[str, ...] | None = None
    age_edges: tuple[float, ...] = Field(AGE_EDGES, min_length=1)
    metrics: tuple[str, ...] = Field(("macro_auroc", "macro_f1"), min_length=1)
    specificity: float = Field(0.9, gt=0, lt=1)
    positive: tuple[str, ...] = ()
    few_images: int = Field(FEW_IMAGES, ge=0)
    few_positives: int = Field(10, ge=0)
    permutations: int = Field(1000, ge=0)

    @model_validator(mode="after")
    def _rising(self) -> Fairness:
        if list(self.age_edges) != sorted(set(self.age_edges)):
            raise ValueError("age_edges must rise")
        return self

    def rows(self, answered: Answered) -> Sequence[Mapping[str, Any]]:
        """Return every metric for every group, and for every column the gaps."""
        predictions = answered.predictions
        found = divisions(answered, self.columns, self.age_edges)
        problem = predictions.unusable
        if not found:
            problem = f"the manifest does not tell {', '.join(COLUMNS)} of the test images"
        if problem:
            return [undefined(f"{self.metrics[0]}_gap", len(predictions), problem)]
        judged = [self._by_metrics(answered)]
        gaps: dict[str, Gap] = {}
        if isinstance(predictions, Predictions):
            validation = answered.validation
            chosen_on = validation if isinstance(validation, Predictions) else predictions
            for prefix, asked, chosen in self._questions(predictions, chosen_on):
                if prefix:
                    judged.append(Judged(asked, POSITIVE_METRICS))
                judged.append(self._at_specificity(prefix, asked, chosen))
                gaps |= _decision_gaps(prefix, asked)
        rows = [row for own in judged[1:] for row in measure([own], answered)]
        for division in found:
            by_group = measure_groups(judged, answered, [division], self.few_images)
            rows += [self._warned(row, division, predictions) for row in by_group]
            rows += self._gap_rows(division, by_group, judged, gaps, answered)
        if answered.validation is None:
            rows = [_without_validation(row) for row in rows]
        return rows

    def _by_metrics(self, answered: Answered) -> Judged:
        metrics = KINDS[answered.task.kind].metrics
        for name in self.metrics:
            if name not in metrics:
                raise unknown("metric in fairness.metrics", name, metrics)
        return Judged(answered.predictions, {name: metrics[name] for name in self.metrics})

    def _questions(
        self, predictions: Predictions, chosen_on: Predictions
    ) -> list[tuple[str, Predictions, Predictions]]:
        """Return a prefix, the predictions and those for thresholds: all classes, positive ones."""
        questions = [("", predictions, chosen_on)]
        if set(self.positive) & set(predictions.classes):
            merged = [merge(own, self.positive) for own in (predictions, chosen_on)]
            questions.append(("positive_", merged[0], merged[1]))
        return questions

    def _at_specificity(self, prefix: str, asked: Predictions, chosen_on: Predictions) -> Judged:
        decisions = decide(asked, specificity_thresholds(chosen_on, self.specificity))
        if prefix:
            decisions = decisions.only(POSITIVE)
        metrics = (sensitivity_metric("Sensitivity"), specificity_metric("Specificity"))
        names = [f"{prefix}{name}{self.specificity:g}_specificity" for name in _AT]
        return Judged(decisions, dict(zip(names, metrics, strict=True)))

    def _warned(self, row: Row, division: Division, predictions: AnyPredictions) -> Row:
        """Add to a group's row of which classes it has few images."""
        rows = division.parts()[row["subgroup"]]
        if isinstance(predictions, RegressionPredictions):
            return row
        few = _few(predictions.select(rows), self.few_positives)
        return {**row, "note": joined(row["note"], f"few images of {few}" if few else "")}

    def _gap_rows(
        self,
        division: Division,
        by_group: Sequence[Row],
        judged: Sequence[Judged],
        decision_gaps: Mapping[str, Gap],
        answered: Answered,
    ) -> list[Row]:
        known = [f"{division.column}={name}" for name in division.names]
        gaps, notes = dict(decision_gaps), {}
        for own in judged:
            for name, metric in own.metrics.items():
                values = {
                    row["subgroup"].partition("=")[2]: row["value"]
                    for row in by_group
                    if row["metric"] == name and row["subgroup"] in known
                }
                notes[f"{name}_gap"] = _extremes(values)
                defined = [not np.isnan(values[group]) for group in division.names]
                gaps[f"{name}_gap"] = metric_gap(metric, own.answers, defined)
        unit, stratum = clusters(answered), classes(answered)
        estimates = estimate_gaps(
            gaps,
            division.group,
            len(division.names),
            answered.bootstrap,
            unit,
            stratum,
            self.permutations,
        )
        sizes = np.bincount(division.group[division.group >= 0], minlength=len(division.names))
        pairs = zip(division.names, sizes, strict=True)
        small = [
            f"{group} {too_few(size, self.few_images)}"
            for group, size in pairs
            if size < self.few_images
        ]
        return [
            _gap_row(name, gap, joined(notes.get(name, ""), *small), division.column, sizes.sum())
            for name, gap in estimates.items()
        ]


def _decision_gaps(prefix: str, asked: Predictions) -> dict[str, Gap]:
    decisions = chosen_classes(asked)
    if prefix:
        decisions = decisions.only(POSITIVE)
    return {
        f"{prefix}equalised_odds_difference": equalised_odds_difference(decisions),
        f"{prefix}demographic_parity_difference": demographic_parity_difference(decisions),
    }


def _gap_row(name: str, gap: GapEstimate, note: str, column: str, n: int) -> Row:
    if np.isnan(gap.value):
        return undefined(name, n, "fewer than two groups have a value", column)
    chance = ""
    if not np.isnan(gap.p_value):
        chance = f"by chance {gap.by_chance:.3f}, p = {gap.p_value:.3f}"
    interval = {"ci_low": gap.ci_low, "ci_high": gap.ci_high}
    row = {"subgroup": column, "metric": name, "value": gap.value, **interval, "n": int(n)}
    return {**row, "note": joined(chance, note)}


def _extremes(values: Mapping[str, float]) -> str:
    """Name the lowest and the highest group, and those that have no value."""
    defined = {name: value for name, value in values.items() if not np.isnan(value)}
    if len(defined) < 2:
        return ""
    low, high = min(defined, key=defined.__getitem__), max(defined, key=defined.__getitem__)
    left_out = [name for name in values if name not in defined]
    text = f"lowest {low} ({defined[low]:.3f}), highest {high} ({defined[high]:.3f})"
    return text + (f", without {', '.join(left_out)}" if left_out else "")


def _few(predictions: Predictions | MultilabelPredictions, enough: int) -> str:
    if isinstance(predictions, MultilabelPredictions):
        counts = (predictions.targets == 1).sum(axis=0)
    else:
        counts = np.bincount(predictions.targets, minlength=len(predictions.classes))
    pairs = zip(predictions.classes, counts, strict=True)
    return ", ".join(f"{name} ({count})" for name, count in pairs if count < enough)


def _without_validation(row: Row) -> Row:
    if not any(name in row["metric"] for name in _AT):
        return row
    return {**row, "note": joined(row["note"], _NO_VALIDATION)}
