"""Abstention: how many errors remain when the least confident images go to a person."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import digamma

from dermino.evaluate.calibration.reliability import confidence, correct
from dermino.evaluate.classification import Predictions
from dermino.evaluate.metric import Metric, ratio, unusable


@dataclass(frozen=True)
class RiskCoverage:
    """Errors of n images, most confident first.

    Images of equal confidence, as with votes, are kept in random order: the expected number of
    errors among them counts.

    Parameters
    ----------
    confidence:
        Shape (n,).
    error:
        Whether the answer is wrong, shape (n,), bool.
    """

    confidence: np.ndarray
    error: np.ndarray

    @classmethod
    def of(cls, predictions: Predictions) -> RiskCoverage:
        """Take the score of the predicted class as confidence."""
        return cls(confidence(predictions), ~correct(predictions))

    def __len__(self) -> int:
        return len(self.error)

    @property
    def unusable(self) -> str:
        """Why nothing can be computed of them."""
        return unusable(self.confidence)

    def select(self, rows: np.ndarray) -> RiskCoverage:
        """Return some of the images: a boolean mask or row numbers."""
        return RiskCoverage(self.confidence[rows], self.error[rows])

    def area(self, weights: np.ndarray) -> np.ndarray:
        """Mean error over all numbers of images kept (AURC, Geifman and El-Yaniv 2017).

        Parameters
        ----------
        weights:
            Counts, shape (n, R).

        Returns
        -------
        np.ndarray
            (R,) float64.
        """
        kept, errors = self._kept(weights)
        # In a block that begins after a images with A errors and has the error rate e, k images
        # have A + (k - a) e errors; the sum over k of that by k is a difference of harmonic sums.
        before, errors_before = kept[:-1], errors[:-1]
        size = np.diff(kept, axis=0)
        rate = ratio(np.diff(errors, axis=0), size)
        rate[np.isnan(rate)] = 0
        harmonic = digamma(kept + 1)
        sums = (errors_before - before * rate) * np.diff(harmonic, axis=0) + size * rate
        return ratio(sums.sum(axis=0), kept[-1])

    def error_at(self, coverage: float, weights: np.ndarray) -> np.ndarray:
        """Share of errors among the most confident ``coverage``: (n, R) weights -> (R,)."""
        kept, errors = self._kept(weights)
        wanted = coverage * kept[-1]
        values = [
            np.interp(number, own, wrong)
            for number, own, wrong in zip(wanted, kept.T, errors.T, strict=True)
        ]
        return ratio(np.array(values), wanted)

    def error_curve(self, coverage: np.ndarray) -> np.ndarray:
        """Share of errors among the most confident of the images, for shares (m,) of them."""
        kept, errors = (each[:, 0] for each in self._kept(np.ones((len(self), 1))))
        wanted = coverage * len(self)
        return np.interp(wanted, kept, errors) / wanted

    def _kept(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return images and errors down to each level of confidence, (levels + 1, R), from 0."""
        levels, level = np.unique(-self.confidence, return_inverse=True)
        order = np.argsort(level, kind="stable")
        starts = np.searchsorted(level[order], np.arange(len(levels)))
        exact = weights[order].astype(np.float64)
        each = (exact, exact * self.error[order][:, None])
        kept, errors = (
            np.cumsum(np.add.reduceat(values, starts, axis=0), axis=0) for values in each
        )
        nothing = np.zeros((1, weights.shape[1]))
        return np.concatenate([nothing, kept]), np.concatenate([nothing, errors])


def area_metric() -> Metric[RiskCoverage]:
    """Return the area under the risk-coverage curve as a metric."""
    return Metric("Area under the risk-coverage curve", RiskCoverage.area)


def error_metric(coverage: float) -> Metric[RiskCoverage]:
    """Return the error among the most confident ``coverage`` of the images as a metric."""
    return Metric(
        f"Error at coverage {coverage:g}", lambda own, weights: own.error_at(coverage, weights)
    )
