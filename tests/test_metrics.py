"""Metrics and bootstrap against scikit-learn and torchmetrics, on random and degenerate inputs."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    f1_score,
    roc_auc_score,
    top_k_accuracy_score,
)
from torchmetrics.functional.classification import (
    multiclass_auroc,
    multiclass_average_precision,
    multiclass_f1_score,
    multiclass_specificity,
)

from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.classification import CLASSIFICATION_METRICS, Predictions, auroc_per_class
from dermino.evaluate.metric import applicable

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


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


def mean(values: list[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def reference(p: Predictions) -> dict[str, float]:
    """scikit-learn's values; what compares classes, over those that can be compared."""
    n_classes = len(p.classes)
    labels = list(range(n_classes))
    present = np.unique(p.targets)
    split = [c for c in present if (p.targets == c).sum() < len(p)]
    said = np.union1d(present, p.predicted)
    others = {c: p.targets != c for c in said if (p.targets != c).any()}
    values = {
        "macro_auroc": mean([roc_auc_score(p.targets == c, p.scores[:, c]) for c in split]),
        "macro_f1": f1_score(p.targets, p.predicted, average="macro"),
        "balanced_accuracy": balanced_accuracy_score(p.targets, p.predicted),
        "accuracy": accuracy_score(p.targets, p.predicted),
        "macro_average_precision": mean(
            [average_precision_score(p.targets == c, p.scores[:, c]) for c in present]
        ),
        "weighted_f1": f1_score(p.targets, p.predicted, average="weighted"),
        "macro_specificity": mean([(p.predicted[rows] != c).mean() for c, rows in others.items()]),
        "cohen_kappa": cohen_kappa_score(p.targets, p.predicted),
    }
    if n_classes > 2:
        pairs = []
        for a, b in permutations(present, 2):
            rows = np.isin(p.targets, [a, b])
            pairs.append(roc_auc_score(p.targets[rows] == a, p.scores[rows, a]))
        values["macro_auroc_ovo"] = mean(pairs)
    for k in (3, 5):
        if n_classes > k:
            values[f"top_{k}_accuracy"] = top_k_accuracy_score(
                p.targets, p.scores, k=k, labels=labels
            )
    return values


@pytest.mark.parametrize("n_classes", [2, 3, 9])
@pytest.mark.parametrize("levels", [None, 5, 1])
def test_values_equal_scikit_learn_and_torchmetrics(n_classes: int, levels: int | None) -> None:
    p = sample(600, n_classes, levels, seed=n_classes)
    values = {
        name: metric.value(p)[0] for name, metric in applicable(CLASSIFICATION_METRICS, p).items()
    }
    assert values == pytest.approx(reference(p), abs=1e-9)
    if n_classes > 2:
        ovo = roc_auc_score(p.targets, p.scores, multi_class="ovo")
        assert values["macro_auroc_ovo"] == pytest.approx(ovo, abs=1e-9)

    scores, targets = torch.from_numpy(p.scores), torch.from_numpy(p.targets)
    predicted = torch.from_numpy(p.predicted)
    theirs = {
        "macro_auroc": multiclass_auroc(scores, targets, n_classes),
        "macro_average_precision": multiclass_average_precision(scores, targets, n_classes),
        "macro_f1": multiclass_f1_score(predicted, targets, n_classes, average="macro"),
        "weighted_f1": multiclass_f1_score(predicted, targets, n_classes, average="weighted"),
        "macro_specificity": multiclass_specificity(predicted, targets, n_classes, average="macro"),
    }
    ours = {name: values[name] for name in theirs}
    assert ours == pytest.approx({name: float(v) for name, v in theirs.items()}, abs=1e-6)


def test_every_replicate_equals_scikit_learn_on_the_drawn_images() -> None:
    p = sample(30, 4, levels=6)  # so small that replicates miss the rare class
    bootstrap = Bootstrap(replicates=60, seed=3)
    replicates = bootstrap.replicate(applicable(CLASSIFICATION_METRICS, p), p)
    weights = np.concatenate(list(bootstrap.weights(len(p))), axis=1).astype(int)
    missed = 0
    for number, counts in enumerate(weights.T):
        drawn = p.select(np.repeat(np.arange(len(p)), counts))
        missed += len(np.unique(drawn.targets)) < 4
        ours = {name: values[number] for name, values in replicates.items()}
        assert ours == pytest.approx(reference(drawn), abs=1e-6, nan_ok=True)
    assert missed > 0


def test_degenerate_inputs_give_the_reference_value_or_nan_with_a_reason() -> None:
    random = np.random.default_rng(7)
    undefined = 0
    for _ in range(300):
        n, n_classes = int(random.integers(0, 7)), int(random.integers(2, 8))
        # Few of the classes occur, scores tie or are constant, and some are no numbers.
        targets = random.choice(int(random.integers(1, n_classes + 1)), n)
        scores = random.integers(0, int(random.integers(1, 4)), (n, n_classes)).astype(float)
        broken = n > 0 and random.random() < 0.2
        if broken:
            scores[random.integers(n), random.integers(n_classes)] = random.choice(
                [np.nan, np.inf, -np.inf]
            )
        names = [f"c{c}" for c in range(n_classes)]
        p = Predictions(targets, scores.argmax(1), scores, names)
        expected = {} if broken or n == 0 else reference(p)
        for name, metric in applicable(CLASSIFICATION_METRICS, p).items():
            value, reason = metric.value(p)
            assert math.isnan(value) == bool(reason), (name, value, reason)
            if reason:
                undefined += 1
                # The reference is undefined too, or averages over fewer classes than were asked.
                fewer = "no test image of" in reason or "all test images are" in reason
                assert fewer or math.isnan(expected.get(name, math.nan)), (name, reason)
            else:
                assert value == pytest.approx(expected[name], abs=1e-6), name
    assert undefined > 100


def test_a_class_without_test_images_leaves_auroc_undefined_with_a_reason() -> None:
    full = sample(200, 4)
    p = full.select(full.targets != 2)
    for name in ("macro_auroc", "macro_auroc_ovo", "macro_average_precision"):
        value, reason = CLASSIFICATION_METRICS[name].value(p)
        assert math.isnan(value)
        assert reason == "no test image of c2"
    per_class = auroc_per_class(p, np.ones((len(p), 1), np.float32))[0]
    assert np.isnan(per_class).tolist() == [False, False, True, False]
    for name in ("macro_f1", "balanced_accuracy", "accuracy", "weighted_f1"):
        assert CLASSIFICATION_METRICS[name].value(p)[0] == pytest.approx(
            reference(p)[name], abs=1e-9
        )


def test_one_image_and_no_image() -> None:
    one = Predictions(np.array([1]), np.array([1]), np.array([[0.2, 0.8]]), ["a", "b"])
    assert math.isnan(CLASSIFICATION_METRICS["macro_auroc"].value(one)[0])
    assert CLASSIFICATION_METRICS["macro_f1"].value(one) == (1.0, "")
    assert CLASSIFICATION_METRICS["macro_specificity"].value(one)[1] == "all test images are b"
    assert (
        CLASSIFICATION_METRICS["cohen_kappa"].value(one)[1]
        == "all images are b, and are said to be"
    )

    none = Predictions(np.zeros(0, int), np.zeros(0, int), np.zeros((0, 2)), ["a", "b"])
    for metric in CLASSIFICATION_METRICS.values():
        value, reason = metric.value(none)
        assert math.isnan(value)
        assert reason == "there is no test image"
    replicates = Bootstrap(replicates=3).replicate(CLASSIFICATION_METRICS, none)
    assert all(np.isnan(values).all() for values in replicates.values())


def test_scores_that_are_not_numbers_leave_everything_undefined() -> None:
    scores = np.array([[0.1, np.nan], [0.5, 0.5]])
    p = Predictions(np.array([0, 1]), np.array([1, 0]), scores, ["a", "b"])
    for metric in CLASSIFICATION_METRICS.values():
        value, reason = metric.value(p)
        assert math.isnan(value)
        assert reason == "1 of 2 images have answers that are not finite numbers"


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
    replicates = bootstrap.replicate({"accuracy": CLASSIFICATION_METRICS["accuracy"]}, p)[
        "accuracy"
    ]
    low, high = bootstrap.interval(replicates)
    assert (low, high) == pytest.approx(tuple(np.percentile(replicates, [2.5, 97.5])))
    theory = 2 * 1.96 * math.sqrt(right.mean() * (1 - right.mean()) / 2000)
    assert high - low == pytest.approx(theory, rel=0.1)
    again = bootstrap.replicate({"accuracy": CLASSIFICATION_METRICS["accuracy"]}, p)["accuracy"]
    assert (replicates == again).all()
    assert all(math.isnan(end) for end in bootstrap.interval(np.full(5, np.nan)))
