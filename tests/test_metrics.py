"""Metrics and bootstrap against scikit-learn and torchmetrics, on random and degenerate inputs."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    f1_score,
    roc_auc_score,
)
from torchmetrics.functional.classification import multiclass_auroc, multiclass_f1_score

from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.metrics import METRICS, Predictions, auroc_per_class

pytestmark = pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")


def sample(n: int, n_classes: int, levels: int | None = None, seed: int = 0) -> Predictions:
    """Imbalanced targets; ``levels`` rounds the scores so that many tie."""
    random = np.random.default_rng(seed)
    share = 0.7 ** np.arange(n_classes)
    targets = random.choice(n_classes, n, p=share / share.sum())
    scores = np.exp(random.normal(size=(n, n_classes)) + np.eye(n_classes)[targets])
    if levels:
        scores = np.ceil(scores / scores.max() * levels)
    scores /= scores.sum(axis=1, keepdims=True)
    return Predictions(targets, scores.argmax(1), scores, [f"c{c}" for c in range(n_classes)])


def reference(p: Predictions) -> dict[str, float]:
    """scikit-learn's values; its AUROC class by class, over those that occur."""
    present = [c for c in np.unique(p.targets) if 0 < (p.targets == c).sum() < len(p)]
    aurocs = [roc_auc_score(p.targets == c, p.scores[:, c]) for c in present]
    return {
        "macro_auroc": float(np.mean(aurocs)) if aurocs else math.nan,
        "macro_f1": f1_score(p.targets, p.predicted, average="macro"),
        "balanced_accuracy": balanced_accuracy_score(p.targets, p.predicted),
        "accuracy": accuracy_score(p.targets, p.predicted),
    }


@pytest.mark.parametrize("n_classes", [2, 3, 9])
@pytest.mark.parametrize("levels", [None, 5, 1])
def test_values_equal_scikit_learn_and_torchmetrics(n_classes: int, levels: int | None) -> None:
    p = sample(600, n_classes, levels, seed=n_classes)
    values = {name: metric.value(p)[0] for name, metric in METRICS.items()}
    assert values == pytest.approx(reference(p), abs=1e-9)

    scores, targets = torch.from_numpy(p.scores), torch.from_numpy(p.targets)
    auroc = float(multiclass_auroc(scores, targets, n_classes))
    predicted = torch.from_numpy(p.predicted)
    f1 = float(multiclass_f1_score(predicted, targets, n_classes, average="macro"))
    assert (values["macro_auroc"], values["macro_f1"]) == pytest.approx((auroc, f1), abs=1e-6)


def test_every_replicate_equals_scikit_learn_on_the_drawn_images() -> None:
    p = sample(30, 4, levels=6)  # so small that replicates miss the rare class
    bootstrap = Bootstrap(replicates=80, seed=3)
    replicates = bootstrap.replicate(METRICS, p)
    weights = np.concatenate(list(bootstrap.weights(len(p))), axis=1).astype(int)
    missed = 0
    for number, counts in enumerate(weights.T):
        rows = np.repeat(np.arange(len(p)), counts)
        drawn = Predictions(p.targets[rows], p.predicted[rows], p.scores[rows], p.classes)
        missed += len(np.unique(drawn.targets)) < 4
        ours = {name: values[number] for name, values in replicates.items()}
        assert ours == pytest.approx(reference(drawn), abs=1e-9)
    assert missed > 0


def test_a_class_without_test_images_leaves_auroc_undefined_with_a_reason() -> None:
    full = sample(200, 4)
    keep = full.targets != 2
    p = Predictions(full.targets[keep], full.predicted[keep], full.scores[keep], full.classes)
    value, reason = METRICS["macro_auroc"].value(p)
    assert math.isnan(value)
    assert reason == "no test image of c2"
    per_class = auroc_per_class(p, np.ones((len(p), 1), np.float32))[0]
    assert np.isnan(per_class).tolist() == [False, False, True, False]
    for name in ("macro_f1", "balanced_accuracy", "accuracy"):
        assert METRICS[name].value(p)[0] == pytest.approx(reference(p)[name], abs=1e-9)


def test_one_image_and_no_image() -> None:
    one = Predictions(np.array([1]), np.array([1]), np.array([[0.2, 0.8]]), ["a", "b"])
    assert math.isnan(METRICS["macro_auroc"].value(one)[0])
    assert METRICS["macro_f1"].value(one) == (1.0, "")
    assert METRICS["accuracy"].value(one) == (1.0, "")

    none = Predictions(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 2)), ["a", "b"])
    for metric in METRICS.values():
        value, reason = metric.value(none)
        assert math.isnan(value)
        assert reason == "there is no test image"
    replicates = Bootstrap(replicates=3).replicate(METRICS, none)
    assert all(np.isnan(values).all() for values in replicates.values())


def test_scores_that_are_not_numbers_are_refused() -> None:
    scores = np.array([[0.1, np.nan], [0.5, 0.5]])
    with pytest.raises(ValueError, match="finite"):
        Predictions(np.array([0, 1]), np.array([0, 1]), scores, ["a", "b"])


def test_clusters_are_drawn_whole_and_unknown_ones_alone() -> None:
    clusters = ["a", "b", "a", None, None, "b", "a"]
    weights = np.concatenate(list(Bootstrap(replicates=300).weights(7, clusters)), axis=1)
    assert weights.shape == (7, 300)
    assert (weights[0] == weights[2]).all()
    assert (weights[0] == weights[6]).all()
    assert (weights[1] == weights[5]).all()
    assert (weights[3] != weights[4]).any()
    units = weights[[0, 1, 3, 4]]
    assert (units.sum(axis=0) == 4).all()


def test_intervals_are_percentiles_seeded_and_of_the_right_width() -> None:
    right = np.random.default_rng(0).random(2000) < 0.8
    targets = np.zeros(2000, int)
    p = Predictions(targets, (~right).astype(int), np.zeros((2000, 2)), ["a", "b"])
    bootstrap = Bootstrap(replicates=2000, seed=1)
    replicates = bootstrap.replicate({"accuracy": METRICS["accuracy"]}, p)["accuracy"]
    low, high = bootstrap.interval(replicates)
    assert (low, high) == pytest.approx(tuple(np.percentile(replicates, [2.5, 97.5])))
    theory = 2 * 1.96 * math.sqrt(right.mean() * (1 - right.mean()) / 2000)
    assert high - low == pytest.approx(theory, rel=0.1)
    again = bootstrap.replicate({"accuracy": METRICS["accuracy"]}, p)["accuracy"]
    assert (replicates == again).all()
    assert all(math.isnan(end) for end in bootstrap.interval(np.full(5, np.nan)))
