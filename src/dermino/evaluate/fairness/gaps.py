"""How far groups are apart: the gap, its interval, and what chance alone would give."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.fairness.decisions import Decisions
from dermino.evaluate.groupwise import basic_interval
from dermino.evaluate.metric import Metric, mean_of_defined

# From the groups' weightings, each (n, R), to R gaps.
Gap = Callable[[Sequence[np.ndarray]], np.ndarray]

_BLOCK_VALUES = 2**20


def metric_gap(metric: Metric[Any], answers: Any, compared: Sequence[bool]) -> Gap:
    """Return the difference between the highest and the lowest value of the compared groups.

    Parameters
    ----------
    metric, answers:
        What is measured, and of what: n images.
    compared:
        For each group whether the metric is defined in it.
    """

    def gap(groups: Sequence[np.ndarray]) -> np.ndarray:
        chosen = [own for own, taken in zip(groups, compared, strict=True) if taken]
        if not chosen:
            return np.full(groups[0].shape[1], np.nan)
        return spread([metric.replicates(answers, weights) for weights in chosen])

    return gap


def equalised_odds_difference(decisions: Decisions) -> Gap:
    """Return the larger of the gaps in sensitivity and in false positive rate.

    Hardt, Price and Srebro (2016); of several questions the mean is taken. A group without true
    images does not count for the sensitivity of that question.
    """

    def gap(groups: Sequence[np.ndarray]) -> np.ndarray:
        rates = (Decisions.sensitivity, Decisions.false_positive_rate)
        gaps = [spread([rate(decisions, weights) for weights in groups]) for rate in rates]
        # NaN where either is: half of the question has no answer.
        return mean_of_defined(np.maximum(*gaps))

    return gap


def demographic_parity_difference(decisions: Decisions) -> Gap:
    """Return the gap in how often the answer is yes; of several questions the mean."""
    return lambda groups: mean_of_defined(
        spread([decisions.selection_rate(weights) for weights in groups])
    )


def spread(values: Sequence[np.ndarray]) -> np.ndarray:
    """Return highest minus lowest of G arrays, elementwise; NaN with fewer than two defined."""
    stacked = np.stack(values)
    missing = np.isnan(stacked)
    high = np.where(missing, -np.inf, stacked).max(axis=0)
    low = np.where(missing, np.inf, stacked).min(axis=0)
    enough = (~missing).sum(axis=0) > 1
    return np.subtract(high, low, out=np.full(high.shape, np.nan), where=enough)


@dataclass(frozen=True)
class GapEstimate:
    """A gap with what is needed to read it.

    Parameters
    ----------
    value:
        On the test set; NaN where fewer than two groups have a value.
    ci_low, ci_high:
        Basic bootstrap interval, from 0 up.
    by_chance:
        Mean gap when groups are dealt at random; NaN without permutations.
    p_value:
        How often dealing at random gives a gap as large; NaN without permutations.
    """

    value: float
    ci_low: float
    ci_high: float
    by_chance: float
    p_value: float


def estimate_gaps(
    gaps: Mapping[str, Gap],
    group: np.ndarray,
    n_groups: int,
    bootstrap: Bootstrap,
    clusters: np.ndarray | None = None,
    classes: np.ndarray | None = None,
    permutations: int = 1000,
) -> dict[str, GapEstimate]:
    """Measure gaps between groups.

    The permutation test deals the groups anew among the units of the bootstrap: under the
    hypothesis that a group's name says nothing about its images, all deals are equally likely. An
    image whose group is unknown takes no part.

    Parameters
    ----------
    gaps:
        By name.
    group:
        Group of each image, shape (n,), -1 where unknown.
    n_groups:
        Number of groups G.
    bootstrap:
        How intervals are made.
    clusters, classes:
        As :meth:`dermino.evaluate.bootstrap.Bootstrap.weights` takes them.
    permutations:
        Number of random deals; 0: none.
    """
    member = [(group == g).astype(np.float32)[:, None] for g in range(n_groups)]
    units = None if clusters is None else clusters.tolist()
    values = {name: float(gap(member)[0]) for name, gap in gaps.items()}
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in gaps}
    dealt: dict[str, list[np.ndarray]] = {name: [] for name in gaps}
    for weights in bootstrap.weights(len(group), units, classes):
        own = [weights * mask for mask in member]
        for name, gap in gaps.items():
            drawn[name].append(gap(own))
    for deal in _deals(group, clusters, permutations, bootstrap.seed):
        own = [(deal == g).astype(np.float32) for g in range(n_groups)]
        for name, gap in gaps.items():
            dealt[name].append(gap(own))
    return {
        name: _estimate(values[name], _joined(drawn[name]), _joined(dealt[name]), bootstrap)
        for name in gaps
    }


def _estimate(
    value: float, drawn: np.ndarray, dealt: np.ndarray, bootstrap: Bootstrap
) -> GapEstimate:
    nothing = float("nan")
    if np.isnan(value):
        return GapEstimate(nothing, nothing, nothing, nothing, nothing)
    low, high = basic_interval(bootstrap, value, drawn)
    dealt = dealt[~np.isnan(dealt)]
    if not len(dealt):
        return GapEstimate(value, low, high, nothing, nothing)
    # Equal gaps must not be told apart by rounding.
    as_large = int((dealt >= value - 1e-9).sum())
    p_value = (1 + as_large) / (1 + len(dealt))
    return GapEstimate(value, low, high, float(dealt.mean()), p_value)


def _deals(
    group: np.ndarray, clusters: np.ndarray | None, permutations: int, seed: int
) -> Iterator[np.ndarray]:
    """Yield blocks (n, B) of groups dealt at random among units; -1 stays where it is.

    A patient whose images lie in several groups, such as age bands, is a unit in each.
    """
    known = np.flatnonzero(group >= 0)
    if not len(known):
        return
    names = known if clusters is None else clusters[known]
    numbers: dict[Any, int] = {}
    unit = np.empty(len(known), np.int64)
    for place, (row, name) in enumerate(zip(known, names, strict=True)):
        key = ("image", row) if name is None else (name, group[row])
        unit[place] = numbers.setdefault(key, len(numbers))
    of_unit = np.empty(len(numbers), np.int64)
    of_unit[unit] = group[known]
    random = np.random.default_rng(seed)
    width = max(1, min(permutations, _BLOCK_VALUES // len(group)))
    for start in range(0, permutations, width):
        size = min(width, permutations - start)
        deal = np.full((len(group), size), -1)
        deal[known] = np.stack([random.permutation(of_unit) for _ in range(size)], axis=1)[unit]
        yield deal


def _joined(blocks: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(blocks) if blocks else np.empty(0)
