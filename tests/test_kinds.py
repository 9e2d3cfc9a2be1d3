"""Metrics of multi-label, ordinal and regression tasks, and scores a protocol brings itself."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
import torch
import torchmetrics.functional as reference
from sklearn import metrics as sk

from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.classification import Predictions
from dermino.evaluate.kinds import KINDS, AnyPredictions
from dermino.evaluate.multilabel import (
    MULTILABEL_METRICS,
    MultilabelPredictions,
    auroc_per_label,
    average_precision_per_label,
    f1_per_label,
)
from dermino.evaluate.ordinal import ORDINAL_METRICS
from dermino.evaluate.pooled import PooledScore
from dermino.evaluate.regression import REGRESSION_METRICS, RegressionPredictions

LABELS = ["a", "b", "c", "d"]


def multilabel(n: int = 80, levels: int | None = None, seed: int = 0) -> MultilabelPredictions:
    random = np.random.default_rng(seed)
    targets = (random.random((n, 4)) < [0.5, 0.2, 0.1, 0.7]).astype(np.int64)
    scores = random.normal(size=(n, 4)) + targets
    if levels:
        scores = np.round(scores * levels) / levels
    return MultilabelPredictions(targets, scores > 0.5, scores, LABELS)


def ordinal(n: int = 90, n_classes: int = 4, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    targets = random.integers(0, n_classes, n)
    scores = random.normal(size=(n, n_classes)) + 2 * np.eye(n_classes)[targets]
    return Predictions(targets, scores.argmax(1), scores, [str(c) for c in range(n_classes)])


def regression(n: int = 60, seed: int = 0) -> RegressionPredictions:
    random = np.random.default_rng(seed)
    targets = random.normal(1e4, 3, n)
    return RegressionPredictions(targets, targets + random.normal(0, 1, n))


def weightings(n: int, replicates: int = 8) -> np.ndarray:
    draws = np.random.default_rng(1).integers(0, n, (replicates, n))
    return np.stack([np.bincount(row, minlength=n) for row in draws], axis=1).astype(np.float32)


@pytest.mark.parametrize("levels", [None, 1])
def test_multilabel_metrics_equal_scikit_learn_for_every_weighting(levels: int | None) -> None:
    p = multilabel(levels=levels)
    weights = weightings(len(p))
    functions = [
        (auroc_per_label, sk.roc_auc_score, p.scores),
        (average_precision_per_label, sk.average_precision_score, p.scores),
        (f1_per_label, sk.f1_score, p.predicted),
    ]
    for ours, theirs, answers in functions:
        expected = [
            [theirs(p.targets[:, c], answers[:, c], sample_weight=w) for c in range(4)]
            for w in weights.T
        ]
        np.testing.assert_allclose(ours(p, weights), expected, atol=1e-6)


def test_multilabel_metrics_equal_torchmetrics() -> None:
    p = multilabel(levels=2)
    scores, targets = torch.from_numpy(p.scores), torch.from_numpy(p.targets)
    for name, theirs in (
        ("macro_auroc", reference.classification.multilabel_auroc),
        ("macro_average_precision", reference.classification.multilabel_average_precision),
    ):
        value, note = MULTILABEL_METRICS[name].value(p)
        assert note == ""
        assert value == pytest.approx(float(theirs(scores.sigmoid(), targets, 4)), abs=1e-6)


def test_labels_that_are_not_known_count_neither_for_nor_against() -> None:
    p = multilabel()
    known = np.random.default_rng(2).random(p.targets.shape) < 0.7
    part = MultilabelPredictions(np.where(known, p.targets, -1), p.predicted, p.scores, LABELS)
    ones = np.ones((len(p), 1), np.float32)
    for c in range(4):
        rows = known[:, c]
        truth, scores = p.targets[rows, c], p.scores[rows, c]
        assert auroc_per_label(part, ones)[0, c] == pytest.approx(sk.roc_auc_score(truth, scores))
        assert average_precision_per_label(part, ones)[0, c] == pytest.approx(
            sk.average_precision_score(truth, scores)
        )
        f1 = sk.f1_score(truth, p.predicted[rows, c])
        assert f1_per_label(part, ones)[0, c] == pytest.approx(f1)


def test_ordinal_metrics_equal_scikit_learn_for_every_weighting() -> None:
    p = ordinal()
    weights = weightings(len(p))
    for name, theirs in (
        (
            "quadratic_weighted_kappa",
            lambda w: sk.cohen_kappa_score(
                p.targets, p.predicted, weights="quadratic", sample_weight=w
            ),
        ),
        (
            "mean_absolute_error",
            lambda w: sk.mean_absolute_error(p.targets, p.predicted, sample_weight=w),
        ),
    ):
        ours = ORDINAL_METRICS[name].replicates(p, weights)
        np.testing.assert_allclose(ours, [theirs(w) for w in weights.T], atol=1e-6)
    kappa = reference.classification.multiclass_cohen_kappa(
        torch.from_numpy(p.predicted), torch.from_numpy(p.targets), 4, weights="quadratic"
    )
    value, _ = ORDINAL_METRICS["quadratic_weighted_kappa"].value(p)
    assert value == pytest.approx(float(kappa), abs=1e-6)


def test_regression_metrics_equal_scikit_learn_for_every_weighting() -> None:
    p = regression()
    weights = weightings(len(p))
    for name, theirs in (
        ("mean_absolute_error", sk.mean_absolute_error),
        ("root_mean_squared_error", sk.root_mean_squared_error),
        ("r2", sk.r2_score),
    ):
        expected = [theirs(p.targets, p.predicted, sample_weight=w) for w in weights.T]
        ours = REGRESSION_METRICS[name].replicates(p, weights)
        np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "metric", "predictions", "reason"),
    [
        (
            "multilabel",
            "macro_auroc",
            MultilabelPredictions(
                np.array([[1, 0], [1, 1]]), np.ones((2, 2), bool), np.zeros((2, 2)), ["a", "b"]
            ),
            "no test image without a",
        ),
        (
            "multilabel",
            "macro_average_precision",
            MultilabelPredictions(
                np.array([[0, 1]]), np.ones((1, 2), bool), np.zeros((1, 2)), ["a", "b"]
            ),
            "no test image with a",
        ),
        (
            "ordinal",
            "quadratic_weighted_kappa",
            Predictions(np.zeros(3, int), np.zeros(3, int), np.zeros((3, 2)), ["mild", "severe"]),
            "all images are mild",
        ),
        ("regression", "r2", RegressionPredictions(np.ones(3), np.ones(3)), "the same target"),
        ("regression", "r2", RegressionPredictions(np.zeros(0), np.zeros(0)), "no test image"),
    ],
)
def test_an_undefined_metric_is_nan_with_a_reason(
    kind: str, metric: str, predictions: AnyPredictions, reason: str
) -> None:
    value, note = KINDS[kind].metrics[metric].value(predictions)
    assert np.isnan(value)
    assert reason in note


@pytest.mark.parametrize("predictions", [multilabel(), ordinal(), regression()])
def test_predictions_are_read_back_as_they_were(predictions: AnyPredictions) -> None:
    classes = getattr(predictions, "classes", ())
    back = type(predictions).from_table(pa.table(predictions.columns()), classes)
    for name in ("targets", "predicted", "scores"):
        if hasattr(predictions, name):
            np.testing.assert_array_equal(getattr(back, name), getattr(predictions, name))
    assert len(predictions.select(np.arange(5))) == 5


def test_unknown_labels_are_read_back_as_unknown() -> None:
    p = multilabel()
    targets = np.where(np.arange(4) == 2, -1, p.targets)
    p = MultilabelPredictions(targets, p.predicted, p.scores, LABELS)
    back = MultilabelPredictions.from_table(pa.table(p.columns()), LABELS)
    np.testing.assert_array_equal(back.targets, targets)


def test_pooled_scores_leave_out_undefined_images_and_divide_sums() -> None:
    values = np.array([0.5, np.nan, 1.0, 0.0])
    mean = PooledScore.mean("Dice", values)
    ones = np.ones((4, 1))
    assert mean.replicates(ones)[0] == pytest.approx(np.nanmean(values))
    assert mean.note == "undefined for 1 of 4 images"
    weights = weightings(4, 500)
    drawn = [np.repeat(values, w.astype(int)) for w in weights.T]
    expected = [np.nanmean(d) if np.isfinite(d).any() else np.nan for d in drawn]
    np.testing.assert_allclose(mean.replicates(weights), expected)

    part, whole = np.array([1.0, 2.0]), np.array([2.0, 8.0])
    assert PooledScore.ratio("Dice", part, whole).replicates(np.ones((2, 1)))[0] == 0.3

    nothing = PooledScore.mean("HD95", np.full(3, np.nan))
    value, note = nothing.metric().value(nothing)
    assert np.isnan(value)
    assert note == "undefined for 3 of 3 images"
    own = {"dice": mean.metric()}
    replicates = Bootstrap(50).replicate(own, mean, clusters=["x", "x", "y", None])["dice"]
    assert replicates.shape == (50,)
