"""Two encoders on one task by one protocol: every metric's difference, by every test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.classification import Predictions
from dermino.evaluate.metric import Metric
from dermino.evaluate.pooled import PooledScore
from dermino.evaluate.significance.delong import delong
from dermino.evaluate.significance.mcnemar import mcnemar_p
from dermino.evaluate.significance.paired import bootstrap_p
from dermino.evaluate.significance.paper_statistics import WARNINGS, paper_t_test
from dermino.evaluate.significance.permutation import permutation_p

_ALIKE = "the scores rank the images alike"


@dataclass(frozen=True)
class Contender:
    """What one encoder answered.

    Parameters
    ----------
    encoder:
        Its name.
    answers:
        For each metric, by name: what it is, and what it is computed of.
    unit:
        Number of each image's patient or lesion, shape (n,); None: images are independent.
    classes:
        Class of each image, shape (n,), where it has exactly one.
    bootstrap:
        How replicates are drawn.
    """

    encoder: str
    answers: Mapping[str, tuple[Metric[Any], Any]]
    unit: np.ndarray | None
    classes: np.ndarray | None
    bootstrap: Bootstrap
    _replicates: dict[str, np.ndarray] = field(default_factory=dict)

    @cached_property
    def values(self) -> dict[str, tuple[float, str]]:
        """Each metric's value and, where it is undefined, the reason."""
        return {name: metric.value(own) for name, (metric, own) in self.answers.items()}

    def replicates(self, name: str) -> np.ndarray:
        """Return a metric's bootstrap replicates, shape (R,)."""
        if name not in self._replicates:
            metric, own = self.answers[name]
            drawn = self.bootstrap.replicate({name: metric}, own, self._clusters, self.classes)
            self._replicates.update(drawn)
        return self._replicates[name]

    def jackknife(self, name: str) -> Any:
        """Return a metric's jackknife."""
        metric, own = self.answers[name]
        return self.bootstrap.jackknife({name: metric}, own, self._clusters, self.classes)[name]

    def only(self, name: str, rows: np.ndarray) -> Contender:
        """Return it with one metric on some of the images."""
        metric, own = self.answers[name]
        unit, classes = (part if part is None else part[rows] for part in (self.unit, self.classes))
        return Contender(
            self.encoder, {name: (metric, own.select(rows))}, unit, classes, self.bootstrap
        )

    @property
    def _clusters(self) -> list[int] | None:
        return None if self.unit is None else self.unit.tolist()


def compare_pair(
    first: Contender, second: Contender, permutations: int = 2000
) -> Iterator[dict[str, Any]]:
    """Test every metric that both have.

    Parameters
    ----------
    first, second:
        Of the same images, with the same bootstrap. If its method is ``paper`` or
        ``authors``, the paper's t-test is the only one.
    permutations:
        Of the permutation test; 0 leaves it out.

    Yields
    ------
    dict
        metric, encoder, other, difference, ci_low, ci_high, test, p, n, note; one a metric and
        test. Where the difference is undefined, one with the reason and without a test.
    """
    for name in first.answers:
        if name in second.answers:
            yield from _compare(name, *_on_the_same_images(name, first, second), permutations)


def _compare(
    name: str, first: Contender, second: Contender, permutations: int
) -> Iterator[dict[str, Any]]:
    metric, own = first.answers[name]
    shared = {"metric": name, "encoder": first.encoder, "other": second.encoder, "n": len(own)}
    (value, reason), (other, other_reason) = first.values[name], second.values[name]
    if reason or other_reason:
        empty = dict.fromkeys(("difference", "ci_low", "ci_high", "p"), float("nan"))
        yield {**shared, **empty, "test": "", "note": reason or other_reason}
        return
    bootstrap = first.bootstrap
    drawn, others_drawn = first.replicates(name), second.replicates(name)
    left_out = None
    if bootstrap.method == "bca":
        left_out = first.jackknife(name) - second.jackknife(name)
    low, high = bootstrap.interval(drawn - others_drawn, value - other, left_out)
    row = {**shared, "difference": value - other, "ci_low": low, "ci_high": high}
    note = bootstrap.caution(low)
    if bootstrap.method in WARNINGS:
        p = paper_t_test(drawn, others_drawn)
        yield {**row, "test": "paper-t-test", "p": p, "note": note}
        return
    yield {**row, "test": "bootstrap", "p": bootstrap_p(drawn - others_drawn), "note": note}
    if permutations:
        unit = np.arange(len(own)) if first.unit is None else first.unit
        given = own, second.answers[name][1]
        p = permutation_p({name: metric}, *given, unit, permutations, bootstrap.seed)[name]
        yield {**row, "test": "permutation", "p": p, "note": note}
    yield from _special_tests(name, first, second, row)


def _special_tests(
    name: str, first: Contender, second: Contender, row: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """DeLong for the AUROC of two classes, McNemar for accuracy."""
    own, other = first.answers[name][1], second.answers[name][1]
    if not isinstance(own, Predictions):
        return
    if name == "macro_auroc" and len(own.classes) == 2:
        found = delong(own.targets == 1, own.scores[:, 1], other.scores[:, 1], first.unit)
        low, high = found.interval(first.bootstrap.confidence)
        interval = {"ci_low": low, "ci_high": high}
        note = _ALIKE if np.isnan(found.p) else ""
        yield {**row, **interval, "test": "delong", "p": found.p, "note": note}
    if name == "accuracy":
        right = [given.targets == given.predicted for given in (own, other)]
        p = mcnemar_p(right[0], right[1], first.unit)
        yield {**row, "test": "mcnemar", "p": p, "note": ""}


def _on_the_same_images(
    name: str, first: Contender, second: Contender
) -> tuple[Contender, Contender]:
    """Leave out images of which one encoder's score has no value."""
    values = [contender.answers[name][1] for contender in (first, second)]
    if not all(isinstance(own, PooledScore) and own.per_image is not None for own in values):
        return first, second
    both = np.isfinite(values[0].per_image) & np.isfinite(values[1].per_image)
    return first.only(name, both), second.only(name, both)
