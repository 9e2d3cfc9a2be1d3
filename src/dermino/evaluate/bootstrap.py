"""The nonparametric bootstrap: how far a metric moves when the test set is drawn again.

The paper draws 1,000 replicates (section 4.2) but reports mean plus or minus the variance; here an
interval is made of the replicates' percentiles, so a 95 % interval covers 95 % of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np

from dermino.errors import UserError, unknown
from dermino.evaluate.metric import Metric, PredictionsT
from dermino.evaluate.significance import bca
from dermino.evaluate.significance.paper_statistics import WARNINGS, paper_interval

Interval = Literal["percentile", "bca", "paper", "authors"]

_BLOCK_VALUES = 2**20  # as float32 this stays within a core's cache
_MOST_UNITS = 10_000  # more are left out in groups, or time would grow with their square
_GROUPS = 2_000


@dataclass(frozen=True)
class Jackknife:
    """A metric's values without one unit each.

    Parameters
    ----------
    values:
        Shape (J,).
    strata:
        Which stratum each unit is drawn from, shape (J,).
    """

    values: np.ndarray
    strata: np.ndarray

    def __sub__(self, other: Jackknife) -> Jackknife:
        """Return the jackknife of the difference between two encoders."""
        return Jackknife(self.values - other.values, self.strata)


@dataclass(frozen=True)
class Estimate:
    """A metric's value and interval.

    Parameters
    ----------
    value, ci_low, ci_high:
        NaN where undefined.
    note:
        Why something is undefined, or how not to read it; mostly empty.
    """

    value: float
    ci_low: float
    ci_high: float
    note: str = ""


@dataclass(frozen=True)
class Bootstrap:
    """How replicates are drawn and summarised.

    The same seed and test set give the same replicates, whatever the encoder: differences between
    encoders can be taken replicate by replicate.

    Parameters
    ----------
    replicates:
        Number of draws R.
    confidence:
        Share of the replicates inside an interval.
    seed:
        Seed of the draws.
    method:
        ``percentile``; ``bca``, which corrects for bias and skewness; ``paper``, mean plus or
        minus variance, which is no interval of any stated coverage; ``authors``, mean plus or
        minus standard deviation, one of about 68 %.
    stratified:
        Whether every class keeps its number of units in each replicate, where images have one
        class. It answers: what if as many of each class had been collected?
    """

    replicates: int = 1000
    confidence: float = 0.95
    seed: int = 0
    method: Interval = "percentile"
    stratified: bool = False

    @classmethod
    def configured(
        cls,
        replicates: int = 1000,
        interval: str = "percentile",
        stratified: bool = False,
        statistics: str = "standard",
        seed: int = 0,
    ) -> Bootstrap:
        """Build one from what a user said.

        Parameters
        ----------
        replicates:
            At least 1.
        interval:
            ``percentile`` or ``bca``.
        stratified:
            Whether every class keeps its number of images, or of patients.
        statistics:
            ``standard``; ``paper`` for the paper's interval and t-test; ``authors`` for the
            interval of their code and figures, and the same test.
        seed:
            Not negative.

        Raises
        ------
        UserError
            For a value that is none of these.
        """
        if replicates < 1:
            raise UserError(f"--replicates must be at least 1, not {replicates}.")
        if seed < 0:
            raise UserError(f"--seed must not be negative, but it is {seed}.")
        if interval not in {"percentile", "bca"}:
            raise unknown("interval", interval, ("percentile", "bca"))
        if statistics not in {"standard", *WARNINGS}:
            raise unknown("--statistics", statistics, ("standard", *WARNINGS))
        if statistics in WARNINGS and interval == "bca":
            raise UserError(
                f"--interval bca does not go with --statistics {statistics}.", "Leave one out."
            )
        method = interval if statistics == "standard" else statistics
        return cls(replicates, seed=seed, method=cast(Interval, method), stratified=stratified)

    def weights(
        self, n: int, clusters: Sequence[Any] | None = None, classes: np.ndarray | None = None
    ) -> Iterator[np.ndarray]:
        """Yield how often each of ``n`` images is drawn, in blocks of replicates.

        Parameters
        ----------
        n:
            Number of test images.
        clusters:
            Patient or lesion of each image; they are drawn whole, with replacement. None in it:
            an image on its own. Without clusters, images are drawn.
        classes:
            Class of each image, shape (n,), for a stratified draw. A patient with several classes
            is drawn among those of the rarest.

        Yields
        ------
        np.ndarray
            (n, B) float32 counts; the widths B add up to ``replicates``.
        """
        unit, strata = self._units(n, clusters, classes)
        members = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
        random = np.random.default_rng(self.seed)
        width = max(1, min(self.replicates, _BLOCK_VALUES // max(n, 1)))
        for start in range(0, self.replicates, width):
            counts = np.zeros((min(width, self.replicates - start), len(strata)), np.float32)
            for row in counts:
                for own in members:
                    drawn = random.integers(0, len(own), len(own))
                    row[own] = np.bincount(drawn, minlength=len(own))
            by_unit = np.ascontiguousarray(counts.T)
            yield by_unit if clusters is None else by_unit[unit]

    def replicate(
        self,
        metrics: Mapping[str, Metric[PredictionsT]],
        predictions: PredictionsT,
        clusters: Sequence[Any] | None = None,
        classes: np.ndarray | None = None,
    ) -> dict[str, np.ndarray]:
        """Return every metric's replicates, each of shape (R,); NaN where one is undefined.

        Parameters
        ----------
        metrics, predictions:
            By name, and what they are computed of: n images.
        clusters, classes:
            See :meth:`weights`.
        """
        weights = self.weights(len(predictions), clusters, classes)
        return _values(metrics, predictions, weights)

    def jackknife(
        self,
        metrics: Mapping[str, Metric[PredictionsT]],
        predictions: PredictionsT,
        clusters: Sequence[Any] | None = None,
        classes: np.ndarray | None = None,
    ) -> dict[str, Jackknife]:
        """Leave out each unit that the bootstrap draws: image, lesion or patient.

        More than 10,000 of them are left out in 2,000 random groups.
        """
        n = len(predictions)
        unit, strata = self._units(n, clusters, classes)
        group, group_strata = np.arange(len(strata)), strata
        if len(strata) > _MOST_UNITS:
            share = np.random.default_rng(self.seed).permutation(len(strata)) % _GROUPS
            pairs = np.stack([strata, share], axis=1)
            found, group = np.unique(pairs, axis=0, return_inverse=True)
            group, group_strata = group.reshape(-1), found[:, 0]
        width = max(1, _BLOCK_VALUES // max(n, 1))
        blocks = (
            (group[unit][:, None] != np.arange(start, stop)).astype(np.float32)
            for start in range(0, len(group_strata), width)
            for stop in [min(start + width, len(group_strata))]
        )
        values = _values(metrics, predictions, blocks)
        return {name: Jackknife(own, group_strata) for name, own in values.items()}

    def estimate(
        self,
        metrics: Mapping[str, Metric[PredictionsT]],
        predictions: PredictionsT,
        clusters: Sequence[Any] | None = None,
        classes: np.ndarray | None = None,
    ) -> dict[str, Estimate]:
        """Return every metric's value with its interval, or why there is none.

        Parameters
        ----------
        metrics, predictions:
            By name, and what they are computed of: n images.
        clusters, classes:
            See :meth:`weights`.
        """
        values = {name: metric.value(predictions) for name, metric in metrics.items()}
        defined = {name: metrics[name] for name, (_, reason) in values.items() if not reason}
        replicates = self.replicate(defined, predictions, clusters, classes)
        left_out: Mapping[str, Jackknife] = {}
        if self.method == "bca":
            left_out = self.jackknife(defined, predictions, clusters, classes)
        estimates = {}
        for name, (value, reason) in values.items():
            if reason:
                estimates[name] = Estimate(value, np.nan, np.nan, reason)
                continue
            low, high = self.interval(replicates[name], value, left_out.get(name))
            estimates[name] = Estimate(value, low, high, self.caution(low))
        return estimates

    def interval(
        self,
        replicates: np.ndarray,
        value: float = float("nan"),
        left_out: Jackknife | None = None,
    ) -> tuple[float, float]:
        """Return the interval of one metric's replicates; NaN where none is defined.

        Parameters
        ----------
        replicates:
            Shape (R,); those that are NaN are left out.
        value, left_out:
            The metric's value and jackknife, for ``bca``; without them percentiles are taken.
        """
        defined = replicates[~np.isnan(replicates)]
        if self.method in WARNINGS:
            return paper_interval(defined, deviation=self.method == "authors")
        if left_out is not None:
            without, strata = left_out.values, left_out.strata
            return bca.bca_interval(value, defined, without, self.confidence, strata)
        if not len(defined):
            return float("nan"), float("nan")
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        return float(low), float(high)

    def caution(self, low: float) -> str:
        """Return what must be said of an interval with this lower end; mostly nothing."""
        if self.method in WARNINGS:
            return WARNINGS[self.method]
        return bca.UNDEFINED if self.method == "bca" and np.isnan(low) else ""

    def _units(
        self, n: int, clusters: Sequence[Any] | None, classes: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the unit of each image, (n,), and the stratum of each unit."""
        unit = np.arange(n) if clusters is None else number_clusters(clusters)
        strata = np.zeros(int(unit.max(initial=-1)) + 1, np.int64)
        if self.stratified and classes is not None:
            by_count = np.argsort(-np.bincount(classes), kind="stable")
            rank = np.argsort(by_count)  # the rarest class has the highest
            np.maximum.at(strata, unit, rank[classes])
        return unit, strata


def number_clusters(clusters: Sequence[Any]) -> np.ndarray:
    """Number the clusters from 0, shape (n,) int64; every None is a cluster of its own."""
    numbers: dict[Any, int] = {}
    return np.array(
        [
            numbers.setdefault(("row", row) if name is None else ("cluster", name), len(numbers))
            for row, name in enumerate(clusters)
        ],
        dtype=np.int64,
    )


def _values(
    metrics: Mapping[str, Metric[PredictionsT]],
    predictions: PredictionsT,
    blocks: Iterator[np.ndarray],
) -> dict[str, np.ndarray]:
    found: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
    for weights in blocks:
        for name, metric in metrics.items():
            found[name].append(metric.replicates(predictions, weights))
    return {name: np.concatenate(values or [np.empty(0)]) for name, values in found.items()}
