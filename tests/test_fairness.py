"""Groups of patients, gaps between them, and the fairness analysis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from dermino.data.manifest import Manifest
from dermino.errors import UserError
from dermino.evaluate.analyses.fairness import Fairness
from dermino.evaluate.analysis import Answered
from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.classification import CLASSIFICATION_METRICS, Predictions
from dermino.evaluate.derive import make_task
from dermino.evaluate.fairness.decisions import chosen_classes, decide, specificity_thresholds
from dermino.evaluate.fairness.gaps import (
    demographic_parity_difference,
    equalised_odds_difference,
    estimate_gaps,
    metric_gap,
)
from dermino.evaluate.fairness.positive import POSITIVE_METRICS, merge
from dermino.evaluate.subgroups import divide

CLASSES = ["benign", "melanoma", "nevus"]


def sample(n: int = 300, n_classes: int = 3, seed: int = 0) -> Predictions:
    random = np.random.default_rng(seed)
    targets = random.integers(0, n_classes, n)
    scores = np.exp(random.normal(size=(n, n_classes)) + 1.5 * np.eye(n_classes)[targets])
    scores /= scores.sum(axis=1, keepdims=True)
    return Predictions(targets, scores.argmax(1), scores, CLASSES[:n_classes])


def manifest(**columns: Any) -> Manifest:
    n = len(next(iter(columns.values())))
    images = [f"{row}.jpg" for row in range(n)]
    frame = pd.DataFrame({"image": images, "dataset": "skin", **columns})
    return Manifest.from_frame(frame, Path("."))


def answered(
    predictions: Predictions, validation: Predictions | None = None, **columns: Any
) -> Answered:
    """Put two training rows before the test rows, as a task must have some."""
    names = list(predictions.classes)
    labels = [*names, *(names[target] for target in predictions.targets)]
    ahead = len(names)
    rows = {name: [values[0]] * ahead + list(values) for name, values in columns.items()}
    made = manifest(
        labels=[[label] for label in labels],
        split=["train"] * ahead + ["test"] * len(predictions),
        **rows,
    )
    return Answered(make_task("skin", made), predictions, validation, Bootstrap(100))


def table(rows: Any) -> pd.DataFrame:
    return pd.DataFrame(rows).set_index(["subgroup", "metric"])


def test_images_are_divided_by_pairs_of_skin_types_bands_of_age_and_values() -> None:
    images = manifest(
        skin_type=[1, 2, 6, None, None],
        skin_type_group=[None, None, None, "III-IV", None],
        age=[30, 29.9, 80, None, 50],
        sex=["female", "male", "male", None, "male"],
        score=[0.0, 1.0, 2.0, 3.0, 4.0],
    )
    skin, age, sex = divide(images, ["skin_type", "age", "sex"])
    assert skin.names == ("I-II", "III-IV", "V-VI")
    assert skin.group.tolist() == [0, 0, 2, 1, -1]
    assert age.names == ("below 30", "30 to below 50", "50 to below 70", "70 and above")
    assert age.group.tolist() == [1, 0, 3, -1, 2]
    assert {name: rows.tolist() for name, rows in sex.parts().items()} == {
        "sex=female": [0],
        "sex=male": [1, 2, 4],
        "sex=unknown": [3],
    }
    many = manifest(score=np.arange(60.0), code=[f"c{row}" for row in range(60)])
    assert np.bincount(divide(many, ["score"])[0].group).tolist() == [20, 20, 20]
    for column, message in (("code", "too many"), ("labels", "lists"), ("scor", "mean 'score'")):
        with pytest.raises(UserError, match=message):
            divide(many, [column])


def test_thresholds_give_the_best_sensitivity_at_the_specificity() -> None:
    predictions = sample()
    thresholds = specificity_thresholds(predictions, 0.9)
    decisions = decide(predictions, thresholds)
    ones = np.ones((len(predictions), 1), np.float32)
    for c in range(3):
        false, true, _ = roc_curve(
            predictions.targets == c, predictions.scores[:, c], drop_intermediate=False
        )
        assert decisions.sensitivity(ones)[0, c] == pytest.approx(true[false <= 0.1].max())
        assert decisions.false_positive_rate(ones)[0, c] <= 0.1
    # Images that tie with the threshold are not said to be of the class.
    tied = Predictions(np.array([0] * 9 + [1]), np.zeros(10), np.full((10, 2), 0.5), ["a", "b"])
    assert not decide(tied, specificity_thresholds(tied, 0.9)).said.any()


def test_gaps_of_decisions_equal_those_of_the_definition_and_fairlearn() -> None:
    predictions = sample(n_classes=2)
    group = np.random.default_rng(1).integers(0, 3, len(predictions))
    decisions = chosen_classes(predictions)
    gaps = {
        "odds": equalised_odds_difference(decisions),
        "parity": demographic_parity_difference(decisions),
    }
    found = estimate_gaps(gaps, group, 3, Bootstrap(10), permutations=0)
    true, said = predictions.targets == 1, predictions.predicted == 1
    rates = [
        np.ptp([said[(group == g) & where].mean() for g in range(3)])
        for where in (true, ~true, np.ones_like(true))
    ]
    assert found["odds"].value == pytest.approx(max(rates[:2]), abs=1e-9)
    assert found["parity"].value == pytest.approx(rates[2], abs=1e-9)

    fairlearn = pytest.importorskip("fairlearn.metrics", reason="fairlearn is not installed")
    known = {"y_true": true, "y_pred": said, "sensitive_features": group}
    odds = fairlearn.equalized_odds_difference(**known)
    parity = fairlearn.demographic_parity_difference(**known)
    assert (found["odds"].value, found["parity"].value) == pytest.approx((odds, parity), abs=1e-9)


def test_permutation_test_finds_a_gap_and_is_calibrated_without_one() -> None:
    def gap(predictions: Predictions, group: np.ndarray, clusters: np.ndarray | None) -> Any:
        gaps = {"gap": metric_gap(CLASSIFICATION_METRICS["accuracy"], predictions, [True, True])}
        return estimate_gaps(gaps, group, 2, Bootstrap(100), clusters, permutations=99)["gap"]

    predictions = sample(200)
    right = predictions.predicted == predictions.targets
    told = gap(predictions, np.where(right, 0, 1), None)
    assert told.value == told.ci_high == 1
    assert told.p_value == pytest.approx(0.01)

    found = []
    for seed in range(60):
        patients = np.repeat(np.arange(40), 4)
        own = sample(40, seed=seed).select(patients)
        group = np.random.default_rng(seed).permutation(40)[patients] % 2
        found.append([gap(own, group, units).p_value for units in (patients.astype(object), None)])
    by_patient, by_image = np.mean(np.array(found) <= 0.1, axis=0)
    # Taking a patient's equal images for independent finds gaps that are not there.
    assert by_patient <= 0.2 < by_image


def test_fairness_lists_groups_gaps_and_what_they_rest_on() -> None:
    predictions, validation = sample(120), sample(80, seed=1)
    skin = [1, 3, 5, None] * 30
    sex = (["female"] * 59 + ["male"]) * 2
    given = answered(predictions, validation, skin_type=skin, sex=sex)
    rows = table(Fairness(positive=("melanoma",), permutations=20).rows(given))

    part = predictions.select(np.arange(0, 120, 4))
    value = rows.loc[("skin_type=I-II", "macro_auroc")]
    expected = roc_auc_score(part.targets, part.scores, multi_class="ovr")
    assert (value["value"], value["n"]) == pytest.approx((expected, 30))
    assert value["ci_low"] < expected < value["ci_high"]
    groups = ["I-II", "III-IV", "V-VI"]
    each = [rows.loc[(f"skin_type={name}", "macro_auroc"), "value"] for name in groups]
    gap = rows.loc[("skin_type", "macro_auroc_gap")]
    assert gap["value"] == pytest.approx(max(each) - min(each))
    assert gap["n"] == 90
    assert f"lowest {groups[int(np.argmin(each))]}" in gap["note"]
    assert "p = " in gap["note"]
    assert rows.loc[("skin_type=unknown", "macro_auroc"), "n"] == 30

    men = rows.loc[("sex=male", "macro_auroc")]
    assert np.isnan(men["value"])
    assert "no test image of" in men["note"]
    assert "only 2 images" in men["note"]
    assert rows.loc[("sex", "macro_auroc_gap"), "note"] == "fewer than two groups have a value"
    assert "male only 2 images" in rows.loc[("sex", "equalised_odds_difference"), "note"]

    merged = merge(predictions, ["melanoma"])
    auroc = roc_auc_score(predictions.targets == 1, predictions.scores[:, 1])
    assert POSITIVE_METRICS["positive_auroc"].value(merged)[0] == pytest.approx(auroc)
    assert rows.loc[("all", "positive_auroc"), "value"] == pytest.approx(auroc)
    threshold = np.sort(validation.scores[validation.targets != 1, 1])
    spared = int(np.ceil(0.9 * len(threshold)))
    others = predictions.scores[predictions.targets != 1, 1] <= threshold[spared - 1]
    specificity = rows.loc[("all", "positive_specificity_at_0.9_specificity"), "value"]
    assert specificity == pytest.approx(others.mean())


def test_fairness_says_what_it_could_not_do() -> None:
    predictions = sample(60)
    note = table(Fairness().rows(answered(predictions)))["note"].iloc[0]
    assert "does not tell skin_type, sex, age" in note
    given = answered(predictions, sex=["female", "male"] * 30)
    rows = table(Fairness(permutations=5).rows(given))
    where = rows.loc[("all", "sensitivity_at_0.9_specificity"), "note"]
    assert "chosen on the test images" in where
    with pytest.raises(UserError, match="Did you mean 'macro_f1'"):
        Fairness(metrics=("macro_f",)).rows(given)
    with pytest.raises(UserError, match="Did you mean 'sex'"):
        Fairness(columns=("sexes",)).rows(given)
