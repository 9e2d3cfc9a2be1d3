"""From an outcome to rows of the results table: values, intervals, and why there is none."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from dermino.evaluate.bootstrap import Bootstrap, Estimate
from dermino.evaluate.kinds import KINDS, AnyPredictions
from dermino.evaluate.leakage import Exposure
from dermino.evaluate.metric import applicable
from dermino.evaluate.pooled import Aggregate, Score
from dermino.evaluate.protocol import Outcome
from dermino.evaluate.task import UNLABELLED, Task


def score(
    outcome: Outcome, task: Task, bootstrap: Bootstrap, exposure: Exposure
) -> list[dict[str, Any]]:
    """Compute every metric with its interval.

    Parameters
    ----------
    outcome:
        The predictions for the task's test rows, judged by the metrics of the task's kind, and
        the scores that the protocol brings itself.
    task:
        Tells what the bootstrap draws: patients, lesions or images.
    bootstrap:
        How many replicates, and the confidence.
    exposure:
        What the encoder saw of the task.

    Returns
    -------
    list of dict
        One row a metric: metric, value, ci_low, ci_high, n, seen_in_pretraining, note.
    """
    rows = []
    if outcome.predictions is not None:
        rows += measure(outcome.predictions, task, bootstrap)
    elif task.kind == "unlabelled":
        rows += [_undefined(name, UNLABELLED) for name in KINDS[task.kind].metrics]
    for name, own in outcome.scores.items():
        rows.append(_own_score(name, own, task, bootstrap))
    shared = {"n": len(task.rows("test")), "seen_in_pretraining": exposure.kind}
    return [{**row, **shared} for row in rows]


def measure(predictions: AnyPredictions, task: Task, bootstrap: Bootstrap) -> list[dict[str, Any]]:
    """Judge predictions for the test rows by the metrics of the task's kind that apply to them.

    Returns
    -------
    list of dict
        One row a metric: metric, value, ci_low, ci_high, note.
    """
    metrics = applicable(KINDS[task.kind].metrics, predictions)
    estimates = bootstrap.estimate(metrics, predictions, task.clusters()[1], _classes(task))
    return [{"metric": name, **asdict(estimate)} for name, estimate in estimates.items()]


def _own_score(name: str, own: Score, task: Task, bootstrap: Bootstrap) -> dict[str, Any]:
    if isinstance(own, Aggregate):
        estimate = Estimate(own.value, own.ci_low, own.ci_high, own.note)
    else:
        clusters = task.clusters()[1]
        estimate = bootstrap.estimate({name: own.metric()}, own, clusters, _classes(task))[name]
        estimate = replace(estimate, note=estimate.note or own.note)
    return {"metric": name, **asdict(estimate)}


def _classes(task: Task) -> np.ndarray | None:
    """Class of each test image, for a stratified bootstrap; None where images have no one class."""
    single = task.kind in {"classification", "ordinal"}
    return task.targets[task.rows("test")] if single else None


def _undefined(metric: str, note: str) -> dict[str, Any]:
    return {"metric": metric, **asdict(Estimate(np.nan, np.nan, np.nan, note))}
