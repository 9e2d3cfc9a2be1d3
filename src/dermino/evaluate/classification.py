"""One class an image: predictions and their metrics.

Scores are sorted once, not once a replicate.

Semantics are scikit-learn's: :func:`macro_f1` averages over the classes that occur among targets
or predictions, :func:`balanced_accuracy` over those among the targets, :func:`macro_auroc` over
those that have both positives and negatives, :func:`macro_auroc_ovo` over the pairs of classes
that occur. On the test set itself a macro AUROC with a class missing is not reported as a number
(:attr:`Metric.undefined`); in a replicate that happens not to draw a rare class, the mean is over
the others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_array

from dermino.evaluate.metric import Metric, mean_of_defined, ratio, unusable
from dermino.evaluate.ranking import Ranking, indicator


@dataclass(frozen=True)
class Predictions:
    """What a classifier said about the test images.

    Parameters
    ----------
    targets:
        True class of each image, shape (n,), integers below C.
    predicted:
        Predicted class, shape (n,).
    scores:
        One score for each class, higher is more likely, shape (n, C). With one that is NaN or
        infinite, as of a probe that diverged, every metric is undefined.
    classes:
        Names of the C classes, for messages.
    """

    targets: np.ndarray
    predicted: np.ndarray
    scores: np.ndarray
    classes: Sequence[str]

    def __post_init__(self) -> None:
        n, n_classes = self.scores.shape
        if self.targets.shape != (n,) or self.predicted.shape != (n,):
            raise ValueError(
                f"{n} rows of scores, but {self.targets.shape} targets and "
                f"{self.predicted.shape} predictions"
            )
        if len(self.classes) != n_classes:
            raise ValueError(f"{n_classes} columns of scores for {len(self.classes)} classes")

    def __len__(self) -> int:
        return len(self.targets)

    @cached_property
    def unusable(self) -> str:
        """Why nothing can be computed: no image, or scores that are not finite numbers."""
        return unusable(self.scores)

    def select(self, rows: np.ndarray) -> Predictions:
        """Return some of the images: a boolean mask or row numbers."""
        return Predictions(
            self.targets[rows], self.predicted[rows], self.scores[rows], self.classes
        )

    def columns(self) -> dict[str, pa.Array]:
        """Return ``target``, ``predicted`` and ``score:<class>``, one value an image each."""
        names = pa.array(self.classes, pa.string())
        columns = {
            "target": names.take(pa.array(self.targets)),
            "predicted": names.take(pa.array(self.predicted)),
        }
        for number, name in enumerate(self.classes):
            columns[f"score:{name}"] = pa.array(self.scores[:, number])
        return columns

    @classmethod
    def from_table(cls, table: pa.Table, classes: Sequence[str]) -> Predictions:
        """Read what :meth:`columns` gave."""
        code = {name: number for number, name in enumerate(classes)}
        targets, predicted = (
            np.array([code[name] for name in table[column].to_pylist()], np.int64)
            for column in ("target", "predicted")
        )
        scores = np.column_stack([table[f"score:{name}"].to_numpy() for name in classes])
        return cls(targets, predicted, scores, classes)

    @cached_property
    def rankings(self) -> list[Ranking]:
        """The order of positives and negatives of each class."""
        return [Ranking.of(self.targets == c, self.scores[:, c]) for c in range(len(self.classes))]

    @cached_property
    def cells(self) -> csr_array:
        """Which cell of the confusion matrix each image falls in, shape (C * C, n)."""
        n_classes = len(self.classes)
        cell = self.targets.astype(np.int64) * n_classes + self.predicted
        return indicator(cell, np.arange(len(self)), (n_classes**2, len(self)))


def auroc_per_class(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each class against the rest.

    Parameters
    ----------
    predictions:
        Of n images and C classes.
    weights:
        Non-negative counts, shape (n, R), float32.

    Returns
    -------
    np.ndarray
        (R, C) float64; NaN where a class has no positive or no negative.
    """
    columns = [ranking.auroc(weights) for ranking in predictions.rankings]
    return np.stack(columns, axis=1)


def average_precision_per_class(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Average precision of each class against the rest: (n, R) weights -> (R, C) float64."""
    columns = [ranking.average_precision(weights) for ranking in predictions.rankings]
    return np.stack(columns, axis=1)


def confusion(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Counts by true and predicted class, shape (R, C, C) float64, rows are true classes."""
    n_classes = len(predictions.classes)
    counts = np.asarray(predictions.cells @ weights, np.float64)
    return counts.T.reshape(-1, n_classes, n_classes)


def macro_auroc(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean one-vs-rest AUROC over the classes where it is defined, shape (R,)."""
    return mean_of_defined(auroc_per_class(predictions, weights))


def macro_auroc_ovo(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean AUROC over ordered pairs of classes (Hand and Till 2001), shape (R,).

    Unlike one-vs-rest it does not depend on how frequent the classes are. PanDerm's linear probe
    reports it.
    """
    n_classes = len(predictions.classes)
    exact = weights.astype(np.float64)
    of_class = np.stack([exact[predictions.targets == c].sum(axis=0) for c in range(n_classes)])
    # With classes of total weight one, a class against the rest is the sum of its pairs.
    levelled = ratio(exact, of_class[predictions.targets])
    levelled[np.isnan(levelled)] = 0
    wins = sum((ranking.wins(levelled) for ranking in predictions.rankings), np.zeros(len(exact.T)))
    occurring = (of_class > 0).sum(axis=0)
    return ratio(wins, (occurring * (occurring - 1)).astype(np.float64))


def macro_average_precision(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean one-vs-rest average precision (AUPR) over the classes that occur, shape (R,)."""
    return mean_of_defined(average_precision_per_class(predictions, weights))


def sensitivity_per_class(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Share of each class's images that are recognised: (n, R) -> (R, C); NaN without any."""
    counts = confusion(predictions, weights)
    return ratio(np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2))


def specificity_per_class(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Share of the others that are not taken for each class: (n, R) -> (R, C); NaN without any."""
    counts = confusion(predictions, weights)
    others = counts.sum(axis=(1, 2))[:, None] - counts.sum(axis=2)
    taken = counts.sum(axis=1) - np.diagonal(counts, axis1=1, axis2=2)
    return ratio(others - taken, others)


def f1_per_class(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """F1 of each class: (n, R) -> (R, C) float64; NaN where it is neither true nor predicted."""
    counts = confusion(predictions, weights)
    hits = np.diagonal(counts, axis1=1, axis2=2)
    return ratio(2 * hits, counts.sum(axis=1) + counts.sum(axis=2))


def macro_f1(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean F1 over the classes that are true or predicted somewhere, shape (R,)."""
    return mean_of_defined(f1_per_class(predictions, weights))


def weighted_f1(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean F1 weighted by how many images each class has, shape (R,)."""
    share = confusion(predictions, weights).sum(axis=2)
    weighted = np.where(share > 0, f1_per_class(predictions, weights), 0) * share
    return ratio(weighted.sum(axis=1), share.sum(axis=1))


def balanced_accuracy(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean sensitivity over the classes that occur among the targets, shape (R,)."""
    return mean_of_defined(sensitivity_per_class(predictions, weights))


def macro_specificity(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Mean specificity over the classes that are true or predicted somewhere, shape (R,)."""
    counts = confusion(predictions, weights)
    occurring = counts.sum(axis=1) + counts.sum(axis=2) > 0
    values = specificity_per_class(predictions, weights)
    return mean_of_defined(np.where(occurring, values, np.nan))


def cohen_kappa(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Agreement beyond chance, every error alike, shape (R,); NaN where all is one class."""
    n_classes = len(predictions.classes)
    return kappa(confusion(predictions, weights), 1 - np.eye(n_classes))


def kappa(counts: np.ndarray, cost: np.ndarray) -> np.ndarray:
    """Agreement beyond chance: (R, C, C) counts and the (C, C) cost of errors -> (R,)."""
    true, said = counts.sum(axis=2), counts.sum(axis=1)
    observed = np.einsum("rij,ij->r", counts, cost)
    by_chance = np.einsum("ri,rj,ij->r", true, said, cost)
    return 1 - ratio(observed * true.sum(axis=1), by_chance)


def accuracy(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
    """Share of images whose class is predicted, shape (R,)."""
    return _share(predictions.targets == predictions.predicted, weights)


def top_accuracy(k: int) -> Callable[[Predictions, np.ndarray], np.ndarray]:
    """Return the share of images whose class is among the ``k`` of highest score.

    Of classes with equal scores the last ones count as higher, as in scikit-learn.
    """

    def value(predictions: Predictions, weights: np.ndarray) -> np.ndarray:
        own = np.take_along_axis(predictions.scores, predictions.targets[:, None], axis=1)
        later = np.arange(len(predictions.classes)) > predictions.targets[:, None]
        higher = (predictions.scores > own) | ((predictions.scores == own) & later)
        return _share(higher.sum(axis=1) < k, weights)

    return value


def _share(right: np.ndarray, weights: np.ndarray) -> np.ndarray:
    # float32 would round the counts of large test sets.
    return ratio(right.astype(np.float64) @ weights, weights.sum(axis=0, dtype=np.float64))


def without_a_class(predictions: Predictions) -> str:
    """Name the classes that have no test image; undefined is what compares every class."""
    counts = np.bincount(predictions.targets, minlength=len(predictions.classes))
    absent = [name for name, n in zip(predictions.classes, counts, strict=True) if n == 0]
    return f"no test image of {', '.join(absent)}" if absent else ""


def of_one_class(predictions: Predictions) -> str:
    """Name the class that all images are and are said to be, if there is one."""
    seen = {*predictions.targets.tolist(), *predictions.predicted.tolist()}
    if len(seen) != 1:
        return ""
    return f"all images are {predictions.classes[seen.pop()]}, and are said to be"


def _without_others(predictions: Predictions) -> str:
    true = np.unique(predictions.targets)
    return f"all test images are {predictions.classes[true[0]]}" if len(true) == 1 else ""


def _more_classes_than(number: int) -> Callable[[Predictions], bool]:
    return lambda predictions: len(predictions.classes) > number


CLASSIFICATION_METRICS: dict[str, Metric[Predictions]] = {
    "macro_auroc": Metric("Macro AUROC", macro_auroc, without_a_class, by_rank=True),
    "macro_f1": Metric("Macro F1", macro_f1),
    "balanced_accuracy": Metric("Balanced accuracy", balanced_accuracy),
    "accuracy": Metric("Accuracy", accuracy),
    # Of two classes it is the one-vs-rest AUROC.
    "macro_auroc_ovo": Metric(
        "Macro AUROC, one-vs-one", macro_auroc_ovo, without_a_class, _more_classes_than(2), True
    ),
    "macro_average_precision": Metric(
        "Macro average precision", macro_average_precision, without_a_class, by_rank=True
    ),
    "weighted_f1": Metric("Weighted F1", weighted_f1),
    "macro_specificity": Metric("Macro specificity", macro_specificity, _without_others),
    "cohen_kappa": Metric("Cohen's kappa", cohen_kappa, of_one_class),
    "top_3_accuracy": Metric("Top-3 accuracy", top_accuracy(3), applies=_more_classes_than(3)),
    "top_5_accuracy": Metric("Top-5 accuracy", top_accuracy(5), applies=_more_classes_than(5)),
}
