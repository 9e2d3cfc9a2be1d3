"""The same questions for every group of test images: what analyses share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dermino.evaluate.analysis import Answered
from dermino.evaluate.bootstrap import Bootstrap, Estimate
from dermino.evaluate.metric import Metric
from dermino.evaluate.pooled import PooledScore
from dermino.evaluate.results import EVERYBODY
from dermino.evaluate.subgroups import COLUMNS, Division, divide, known_columns

FEW_IMAGES = 30
Row = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """Answers for the n test images, and what judges them.

    Parameters
    ----------
    answers:
        As the metrics read them.
    metrics:
        By name.
    basic:
        Whether intervals are those of :func:`basic_interval`.
    """

    answers: Any
    metrics: Mapping[str, Metric[Any]]
    basic: bool = False

    @classmethod
    def score(cls, name: str, score: PooledScore, basic: bool = False) -> Judged:
        """Judge by a score that is made of the images."""
        return cls(score, {name: score.metric()}, basic)


def divisions(
    answered: Answered, columns: Sequence[str] | None, age_edges: Sequence[float]
) -> list[Division]:
    """Divide the test images.

    Parameters
    ----------
    answered:
        The task tells the images, and by which columns it wants to be looked at.
    columns:
        None: those of the task, else skin type, sex and age, as far as they are known.
    age_edges:
        First age of every band but the youngest.
    """
    task = answered.task
    test = task.manifest.select(task.rows("test"))
    chosen = known_columns(test, task.subgroups or COLUMNS) if columns is None else columns
    return divide(test, chosen, age_edges)


def clusters(answered: Answered) -> np.ndarray | None:
    """What the bootstrap draws whole, shape (n,) of objects; None: single images."""
    names = answered.task.clusters()[1]
    return None if names is None else np.array(names, object)


def classes(answered: Answered) -> np.ndarray | None:
    """Class of each test image, (n,), for a stratified bootstrap; None where it has no one."""
    task = answered.task
    single = task.kind in {"classification", "ordinal"}
    return task.targets[task.rows("test")] if single else None


def estimates(
    judged: Judged, answered: Answered, rows: np.ndarray | None = None
) -> dict[str, Estimate]:
    """Return value and interval of every metric over some test rows; None: all.

    Parameters
    ----------
    judged:
        Answers and metrics.
    answered:
        The task, for what the bootstrap draws whole, and the bootstrap.
    rows:
        Numbers of test images, (m,); None: all.
    """
    unit, stratum = clusters(answered), classes(answered)
    answers = judged.answers
    if rows is not None:
        answers = answers.select(rows)
        unit = None if unit is None else unit[rows]
        stratum = None if stratum is None else stratum[rows]
    drawn = None if unit is None else unit.tolist()
    bootstrap = answered.bootstrap
    if not judged.basic:
        return bootstrap.estimate(judged.metrics, answers, drawn, stratum)
    found = {}
    replicates = bootstrap.replicate(judged.metrics, answers, drawn, stratum)
    for name, metric in judged.metrics.items():
        value, reason = metric.value(answers)
        low, high = basic_interval(bootstrap, value, replicates[name])
        found[name] = Estimate(value, low, high, reason)
    return found


def measure(
    judged: Sequence[Judged],
    answered: Answered,
    rows: np.ndarray | None = None,
    subgroup: str = EVERYBODY,
) -> list[Row]:
    """Return a row of results for every metric over some test rows; None: all.

    Parameters
    ----------
    judged, answered, rows:
        See :func:`estimates`; all are judged on the same images.
    subgroup:
        What the rows of results call these images.
    """
    n = len(judged[0].answers) if rows is None else len(rows)
    return [
        {"subgroup": subgroup, "metric": name, "n": n, **asdict(estimate)}
        for own in judged
        for name, estimate in estimates(own, answered, rows).items()
    ]


def measure_groups(
    judged: Sequence[Judged],
    answered: Answered,
    found: Sequence[Division],
    few_images: int = FEW_IMAGES,
) -> list[Row]:
    """Return a row of results for every metric and group, with a warning for groups too small.

    Parameters
    ----------
    judged, answered:
        See :func:`estimates`.
    found:
        The groups, as :func:`divisions` gives them.
    few_images:
        Smaller groups get the warning.
    """
    return [
        {**row, "note": joined(row["note"], too_few(len(rows), few_images))}
        for division in found
        for subgroup, rows in division.parts().items()
        for row in measure(judged, answered, rows, subgroup)
    ]


def too_few(n: int, few_images: int = FEW_IMAGES) -> str:
    """Return a warning where fewer images than that are there; else nothing."""
    return f"only {n} image{'s' if n != 1 else ''}" if n < few_images else ""


def joined(*notes: str) -> str:
    """Put notes that say something behind one another."""
    return "; ".join(note for note in notes if note)


def undefined(metric: str, n: int, note: str, subgroup: str = EVERYBODY) -> Row:
    """Return a row of results that tells why there is no value."""
    estimate = Estimate(np.nan, np.nan, np.nan, note)
    return {"subgroup": subgroup, "metric": metric, "n": n, **asdict(estimate)}


def basic_interval(
    bootstrap: Bootstrap, value: float, replicates: np.ndarray
) -> tuple[float, float]:
    """Return the interval of a quantity from 0 to 1 that chance alone makes large.

    Drawing again adds a second helping of chance to a gap or a calibration error, so its
    replicates lie above the value. Reflected at it (the basic bootstrap), they lie below by as
    much, which takes the first helping away.

    Parameters
    ----------
    bootstrap:
        How intervals are made.
    value:
        On the test set.
    replicates:
        Shape (R,).
    """
    low, high = bootstrap.interval(2 * value - replicates)
    # Only a gap in an agreement such as kappa can exceed 1.
    most = max(1.0, value)
    return float(np.clip(low, 0, most)), float(np.clip(high, 0, most))
