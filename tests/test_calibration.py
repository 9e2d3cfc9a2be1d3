"""Calibration, temperature scaling, conformal prediction and abstention."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from scipy.stats import binom
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics.functional.classification import multiclass_calibration_error

from dermino.data.manifest import Manifest
from dermino.evaluate.analyses.abstention import Abstention
from dermino.evaluate.analyses.calibration import Calibration
from dermino.evaluate.analyses.conformal import Conformal
from dermino.evaluate.analysis import Analysis, Answered
from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.calibration.conformal import (
    ConformalScore,
    Method,
    conformal_quantile,
    prediction_sets,
)
from dermino.evaluate.calibration.reliability import (
    Bins,
    brier_score,
    confidence,
    expected_calibration_error,
    maximum_calibration_error,
    negative_log_likelihood,
)
from dermino.evaluate.calibration.selective import RiskCoverage
from dermino.evaluate.calibration.temperature import fit_temperature
from dermino.evaluate.classification import Predictions
from dermino.evaluate.derive import make_task
from dermino.evaluate.pooled import PooledScore


def sample(n: int = 400, n_classes: int = 4, sharpness: float = 1, seed: int = 0) -> Predictions:
    """Draw the truth from known probabilities; ``sharpness`` above 1 overstates them."""
    random = np.random.default_rng(seed)
    logits = 1.5 * random.normal(size=(n, n_classes))
    targets = (softmax(logits, axis=1).cumsum(axis=1) < random.random((n, 1))).sum(axis=1)
    targets = np.minimum(targets, n_classes - 1)
    scores = softmax(sharpness * logits, axis=1)
    return Predictions(targets, scores.argmax(1), scores, [f"c{c}" for c in range(n_classes)])


def value(score: PooledScore) -> float:
    return score.metric().value(score)[0]


def table(
    analysis: Analysis, predictions: Predictions, validation: Predictions | None
) -> pd.DataFrame:
    ahead, n = len(predictions.classes), len(predictions)
    labels = [*range(ahead), *predictions.targets]
    frame = pd.DataFrame(
        {
            "image": [f"{row}.jpg" for row in range(ahead + n)],
            "dataset": "skin",
            "split": ["train"] * ahead + ["test"] * n,
            "labels": [[predictions.classes[label]] for label in labels],
            "sex": (["female"] * 3 + ["male"]) * ((ahead + n) // 4),
        }
    )
    task = make_task("skin", Manifest.from_frame(frame, Path(".")))
    rows = analysis.rows(Answered(task, predictions, validation, Bootstrap(100)))
    return pd.DataFrame(rows).set_index(["subgroup", "metric"])


@pytest.mark.parametrize("seed", range(3))
def test_calibration_metrics_equal_torchmetrics_and_scikit_learn(seed: int) -> None:
    p = sample(sharpness=2, seed=seed)
    scores, targets = torch.from_numpy(p.scores), torch.from_numpy(p.targets)
    bins = Bins.equal_width(15)
    for ours, norm in ((expected_calibration_error, "l1"), (maximum_calibration_error, "max")):
        theirs = multiclass_calibration_error(scores, targets, len(p.classes), 15, norm)
        assert value(ours(p, bins)) == pytest.approx(float(theirs), abs=1e-6)
    ours = value(brier_score(p))
    assert ours == pytest.approx(brier_score_loss(p.targets, p.scores, scale_by_half=False))
    assert value(negative_log_likelihood(p)) == pytest.approx(log_loss(p.targets, p.scores))

    # A replicate counts an image as often as it is drawn.
    drawn = np.random.default_rng(seed).integers(0, len(p), len(p))
    weights = np.bincount(drawn, minlength=len(p)).astype(np.float32)[:, None]
    again = multiclass_calibration_error(scores[drawn], targets[drawn], len(p.classes), 15)
    replicate = expected_calibration_error(p, bins).replicates(weights)[0]
    assert replicate == pytest.approx(float(again), abs=1e-6)


def test_bins_hold_their_upper_bound_and_equal_masses() -> None:
    assert Bins.equal_width(10).of(np.array([0, 0.1, 0.11, 0.95, 1])).tolist() == [0, 0, 1, 9, 9]
    bins = Bins.equal_mass(confidence(sample()), 8)
    assert np.bincount(bins.of(confidence(sample()))).tolist() == [50] * 8
    votes = np.array([0.4] * 5 + [0.6] * 50 + [1.0] * 45)
    of = Bins.equal_mass(votes, 10).of(votes)
    assert len(set(zip(of, votes, strict=True))) == len(set(votes))


def test_temperature_is_that_of_lowest_loss_and_undoes_overconfidence() -> None:
    validation, test = sample(4000, sharpness=3), sample(4000, sharpness=3, seed=1)
    temperature = fit_temperature(validation)
    logits = np.log(validation.scores)

    def loss(t: np.ndarray) -> float:
        own = log_softmax(logits / t[0], axis=1)
        return float(-own[np.arange(len(own)), validation.targets].mean())

    best = minimize(loss, [1.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12})
    assert temperature.value == pytest.approx(best.x[0], rel=1e-4)
    assert temperature.value == pytest.approx(3, rel=0.1)
    scaled = temperature.apply(test)
    np.testing.assert_array_equal(scaled.scores.argmax(1), test.predicted)
    bins = Bins.equal_width(15)
    before, after = (value(expected_calibration_error(own, bins)) for own in (test, scaled))
    assert after < 0.03 < 0.1 < before


def reference_sets(
    validation: Predictions, scores: np.ndarray, method: Method, coverage: float
) -> np.ndarray:
    """LAC and RAPS image by image, as their papers write them; the random share is the same."""

    def strangeness(p: np.ndarray, c: int, share: float) -> float:
        if method == "lac":
            return float(1 - p[c])
        rank = 1 + int((p > p[c]).sum())
        penalty = 0.01 * max(rank - 2, 0) if method == "raps" else 0
        return float(p[p > p[c]].sum() + (1 - share) * p[c] + penalty)

    shares = [np.random.default_rng([7, stream]).random(len(validation)) for stream in (0, 1)]
    own = sorted(
        strangeness(p, c, share)
        for p, c, share in zip(validation.scores, validation.targets, shares[0], strict=True)
    )
    bound = own[int(np.ceil((len(own) + 1) * coverage)) - 1]
    return np.array(
        [
            [strangeness(p, c, share) <= bound for c in range(len(p))]
            for p, share in zip(scores, shares[1], strict=False)
        ]
    )


@pytest.mark.parametrize("method", ["lac", "aps", "raps"])
def test_conformal_sets_equal_the_papers_and_hold_their_promise(method: Method) -> None:
    score = ConformalScore(method, 0.01, 2, 7)
    validation, test = sample(150, sharpness=3), sample(100, sharpness=3, seed=1)
    ours = prediction_sets(validation, test.scores, score, 0.9)
    np.testing.assert_array_equal(ours, reference_sets(validation, test.scores, method, 0.9))

    covered, per_class = [], []
    for seed in range(150):
        both = sample(100 + 100, sharpness=3, seed=seed)
        rows = np.arange(200)
        learnt, asked = both.select(rows[:100]), both.select(rows[100:])
        own = ConformalScore(method, 0.01, 2, seed)
        sets = prediction_sets(learnt, asked.scores, own, 0.9)
        covered.append(sets[np.arange(100), asked.targets].mean())
        sets = prediction_sets(learnt, asked.scores, own, 0.9, class_conditional=True)
        hits = sets[np.arange(100), asked.targets]
        per_class.append([hits[asked.targets == c].mean() for c in range(4)])
    # By theory between 0.9 and 0.9 + 1 / 101 on average; the deviation of one is below 0.045.
    margin = 3 * 0.045 / np.sqrt(150)
    assert 0.9 - margin < np.mean(covered) < 0.9 + 1 / 101 + margin
    assert (np.mean(per_class, axis=0) > 0.9 - 2 * margin).all()


def test_conformal_bound_takes_the_new_image_into_account() -> None:
    values = np.arange(1.0, 20.0)
    assert conformal_quantile(values, 0.9) == 18
    assert conformal_quantile(values[:8], 0.9) == np.inf
    assert conformal_quantile(values[:9], 0.9) == 9
    # One image is covered with a probability that is a number of places out of n + 1.
    random = np.random.default_rng(0)
    hits = sum(random.random() <= conformal_quantile(random.random(9), 0.9) for _ in range(2000))
    low, high = binom.interval(0.999, 2000, 0.9)
    assert low <= hits <= high


@pytest.mark.parametrize("levels", [None, 5])
def test_area_under_risk_coverage_equals_the_mean_over_orders(levels: int | None) -> None:
    p = sample(60)
    sure = confidence(p) if levels is None else np.ceil(confidence(p) * levels)
    curve = RiskCoverage(sure, p.predicted != p.targets)
    weights = np.random.default_rng(2).integers(0, 3, (60, 2)).astype(np.float32)
    random = np.random.default_rng(3)
    for column in range(2):
        rows = np.repeat(np.arange(60), weights[:, column].astype(int))
        areas, errors = [], []
        for _ in range(1 if levels is None else 3000):
            shuffled = random.permutation(rows) if levels else rows
            order = shuffled[np.argsort(-sure[shuffled], kind="stable")]
            risk = curve.error[order].cumsum() / np.arange(1, len(order) + 1)
            areas.append(risk.mean())
            errors.append(np.interp(0.7 * len(order), np.arange(1, len(order) + 1), risk))
        tolerance = 0.02 if levels else 0.005
        ours = curve.area(weights)[column]
        assert ours == pytest.approx(np.mean(areas), abs=tolerance)
        assert curve.error_at(0.7, weights)[column] == pytest.approx(np.mean(errors), abs=0.02)
    assert curve.error_at(1, np.ones((60, 1)))[0] == pytest.approx(curve.error.mean())


def test_analyses_give_rows_for_everybody_groups_bins_and_classes() -> None:
    test, validation = sample(), sample(300, seed=1)
    rows = table(Calibration(), test, validation)
    for name in ("ece", "adaptive_ece", "mce", "brier", "nll"):
        for prefix in ("", "scaled_"):
            low, high = rows.loc[("all", prefix + name), ["ci_low", "ci_high"]]
            assert 0 <= low < high
            assert rows.loc[("sex=male", prefix + name), "n"] == 100
    assert rows.loc[("all", "temperature"), "value"] == pytest.approx(1, abs=0.3)
    in_bins = rows[rows.index.get_level_values(0).str.startswith("confidence ")]
    assert in_bins.xs("accuracy", level=1)["n"].sum() == len(test)
    gap = in_bins.xs("accuracy", level=1) - in_bins.xs("mean_confidence", level=1)[["value"]]
    share = in_bins.xs("accuracy", level=1)["n"] / len(test)
    error = (gap["value"].abs() * share).sum()
    assert error == pytest.approx(rows.loc[("all", "ece"), "value"])

    rows = table(Conformal(methods=("lac",)), test, validation)
    assert rows.loc[("all", "lac_0.9_coverage"), "value"] == pytest.approx(0.9, abs=0.06)
    assert rows.loc[("class=c1", "lac_by_class_0.9_coverage"), "value"] > 0.8
    assert 1 <= rows.loc[("sex=female", "lac_0.9_set_size"), "value"] <= 4
    few = table(Conformal(methods=("lac",)), test, validation.select(np.arange(8)))
    assert few.loc[("all", "lac_0.9_set_size"), "value"] == 4
    assert "9 validation images are needed" in few.loc[("all", "lac_0.9_coverage"), "note"]

    rows = table(Abstention(), test, None)
    errors = [rows.loc[(f"coverage {c:g}", "error"), "value"] for c in (0.5, 0.8, 1)]
    assert errors == sorted(errors)
    kept = [rows.loc[(f"sex={s}", "kept_at_0.5"), "value"] for s in ("female", "male")]
    assert 0.75 * kept[0] + 0.25 * kept[1] == pytest.approx(0.5)


def test_what_cannot_be_said_is_undefined_with_a_reason() -> None:
    test = sample()
    rows = table(Calibration(), test, None)
    assert "dermino data split" in rows.loc[("all", "temperature"), "note"]
    rows = table(Conformal(), test, None)
    assert rows["value"].isna().all()
    assert "no validation predictions" in rows["note"].iloc[0]
    logits = Predictions(test.targets, test.predicted, 5 * test.scores, test.classes)
    for analysis in (Calibration(), Conformal()):
        rows = table(analysis, logits, logits)
        assert rows["value"].isna().all()
        assert "no probabilities" in rows["note"].iloc[0]
    votes = np.eye(4)[test.predicted]
    sure = Predictions(test.targets, test.predicted, votes, test.classes)
    rows = table(Calibration(), sure, sure)
    assert "infinite" in rows.loc[("all", "nll"), "note"]
    assert "no temperature changes" in rows.loc[("all", "temperature"), "note"]
