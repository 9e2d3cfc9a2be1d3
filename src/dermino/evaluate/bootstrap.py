"""The nonparametric bootstrap: how far a metric moves when the test set is drawn again.

The paper draws 1,000 replicates (section 4.2) but reports mean plus or minus the variance; here an
interval is made of the replicates' percentiles, so a 95 % interval covers 95 % of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dermino.evaluate.metrics import Metric, PredictionsT

_BLOCK_VALUES = 2**20  # as float32 this stays within a core's cache


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
    """

    replicates: int = 1000
    confidence: float = 0.95
    seed: int = 0

    def weights(self, n: int, clusters: Sequence[Any] | None = None) -> Iterator[np.ndarray]:
        """Yield how often each of ``n`` images is drawn, in blocks of replicates.

        Parameters
        ----------
        n:
            Number of test images.
        clusters:
            Patient or lesion of each image; they are drawn whole, with replacement. None in it:
            an image on its own. Without clusters, images are drawn.

        Yields
        ------
        np.ndarray
            (n, B) float32 counts; the widths B add up to ``replicates``.
        """
        unit = np.arange(n) if clusters is None else _codes(clusters)
        n_units = int(unit.max(initial=-1)) + 1
        random = np.random.default_rng(self.seed)
        width = max(1, min(self.replicates, _BLOCK_VALUES // max(n, 1)))
        for start in range(0, self.replicates, width):
            counts = np.empty((min(width, self.replicates - start), n_units), np.float32)
            for row in counts:
                drawn = random.integers(0, n_units, n_units)
                row[:] = np.bincount(drawn, minlength=n_units)
            by_unit = np.ascontiguousarray(counts.T)
            yield by_unit if clusters is None else by_unit[unit]

    def replicate(
        self,
        metrics: Mapping[str, Metric[PredictionsT]],
        predictions: PredictionsT,
        clusters: Sequence[Any] | None = None,
    ) -> dict[str, np.ndarray]:
        """Return every metric's replicates, each of shape (R,); NaN where one is undefined."""
        blocks: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
        for weights in self.weights(len(predictions), clusters):
            for name, metric in metrics.items():
                blocks[name].append(metric.replicates(predictions, weights))
        return {name: np.concatenate(values) for name, values in blocks.items()}

    def interval(self, replicates: np.ndarray) -> tuple[float, float]:
        """Return the percentile interval of one metric's replicates; NaN where none is defined."""
        defined = replicates[~np.isnan(replicates)]
        if not len(defined):
            return float("nan"), float("nan")
        tail = (1 - self.confidence) / 2
        low, high = np.quantile(defined, [tail, 1 - tail])
        return float(low), float(high)


def _codes(clusters: Sequence[Any]) -> np.ndarray:
    """Number the clusters from 0; every None is a cluster of its own."""
    numbers: dict[Any, int] = {}
    return np.array(
        [
            numbers.setdefault(("row", row) if name is None else ("cluster", name), len(numbers))
            for row, name in enumerate(clusters)
        ],
        dtype=np.int64,
    )
