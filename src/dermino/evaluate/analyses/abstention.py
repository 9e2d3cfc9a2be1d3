"""Abstention: what is gained by leaving the least confident answers to a person."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field

from dermino.evaluate.analysis import ANALYSES, Analysis, Answered
from dermino.evaluate.calibration.selective import RiskCoverage, area_metric, error_metric
from dermino.evaluate.classification import Predictions
from dermino.evaluate.groupwise import Judged, Row, divisions, measure, measure_groups, undefined
from dermino.evaluate.pooled import PooledScore
from dermino.evaluate.subgroups import AGE_EDGES
from dermino.evaluate.task import TaskKind


@ANALYSES.register("abstention")
class Abstention(Analysis):
    """The risk-coverage curve and its area, also by group.

    The curve is in the rows ``error`` whose subgroup is ``coverage SHARE``: the share of wrong
    answers among the most confident images. ``kept_at_SHARE`` tells which share of a group's
    images is among them: a model that abstains mostly on one group serves it less.

    Parameters
    ----------
    coverages:
        Shares of the images that are answered.
    columns:
        Manifest columns to divide by. Default: those of the task, else skin type, sex and age.
    age_edges:
        First age of every band but the youngest.
    """

    title: ClassVar[str] = "Abstention"
    description: ClassVar[str] = (
        "Errors among the most confident images, the area under the risk-coverage curve (AURC), "
        "and whom the abstentions concern."
    )
    kinds: ClassVar[frozenset[TaskKind]] = frozenset({"classification", "ordinal"})

    coverages: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.5, 0.6, 0.7, 0.8, 0.9, 1.0), min_length=1
    )
    columns: tuple[str, ...] | None = None
    age_edges: tuple[float, ...] = Field(AGE_EDGES, min_length=1)

    def rows(self, answered: Answered) -> Sequence[Mapping[str, Any]]:
        """Return the area and the curve for all images, area and kept shares for every group."""
        predictions = answered.predictions
        if not isinstance(predictions, Predictions):
            raise TypeError("abstention looks at predictions of classes")
        if predictions.unusable:
            return [undefined("aurc", len(predictions), predictions.unusable)]
        curve = RiskCoverage.of(predictions)
        area = Judged(curve, {"aurc": area_metric()})
        rows = measure([area], answered)
        kept = []
        for coverage in self.coverages:
            at = Judged(curve, {"error": error_metric(coverage)})
            n = round(coverage * len(curve))
            own = measure([at], answered, subgroup=f"coverage {coverage:g}")
            rows += [{**row, "n": n} for row in own]
            if coverage < 1:
                share = _kept(curve.confidence, coverage)
                score = PooledScore.mean(f"Kept at coverage {coverage:g}", share)
                kept.append(Judged.score(f"kept_at_{coverage:g}", score))
        found = divisions(answered, self.columns, self.age_edges)
        groups: list[Row] = measure_groups([area, *kept], answered, found)
        return rows + groups


def _kept(confidence: np.ndarray, coverage: float) -> np.ndarray:
    """Return with which probability each image is kept, (n,); equal confidences share a place."""
    wanted = coverage * len(confidence)
    _, level, counts = np.unique(-confidence, return_inverse=True, return_counts=True)
    before = np.cumsum(counts) - counts
    share = np.clip((wanted - before) / counts, 0, 1)
    return np.asarray(share[level])
