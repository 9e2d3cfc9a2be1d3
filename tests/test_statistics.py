"""Intervals and tests between encoders against scipy, statsmodels and direct computation."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from dermino.errors import UserError
from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.classification import CLASSIFICATION_METRICS, Predictions
from dermino.evaluate.compare import compare
from dermino.evaluate.multilabel import MULTILABEL_METRICS, MultilabelPredictions
from dermino.evaluate.pooled import PooledScore
from dermino.evaluate.regression import REGRESSION_METRICS, RegressionPredictions
from dermino.evaluate.significance.bca import acceleration, bca_interval
from dermino.evaluate.significance.delong import delong, placements
from dermino.evaluate.significance.friedman import compare_ranks
from dermino.evaluate.significance.mcnemar import mcnemar_p
from dermino.evaluate.significance.multiple import holm
from dermino.evaluate.significance.paired import bootstrap_p
from dermino.evaluate.significance.paper_statistics import paper_interval, paper_t_test
from dermino.evaluate.significance.permutation import permutation_p
from dermino.files import write_json

ACCURACY = {"accuracy": CLASSIFICATION_METRICS["accuracy"]}


def binary(n: int, skill: float, seed: int, targets: np.ndarray | None = None) -> Predictions:
    random = np.random.default_rng(seed)
    targets = random.integers(0, 2, n) if targets is None else targets
    scores = random.normal(size=n) + skill * targets
    scores = 1 / (1 + np.exp(-scores.round(1)))  # rounded, so that some tie
    both = np.stack([1 - scores, scores], axis=1)
    return Predictions(targets, both.argmax(1), both, ["benign", "malignant"])


def test_bca_equals_scipy_given_the_same_replicates() -> None:
    sample = np.random.default_rng(0).exponential(size=40)
    theirs = stats.bootstrap((sample,), np.mean, n_resamples=999, method="BCa", rng=1)
    left_out = np.array([np.delete(sample, i).mean() for i in range(len(sample))])
    ours = bca_interval(sample.mean(), theirs.bootstrap_distribution, left_out)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=1e-9)


def test_bca_of_two_strata_equals_scipy_for_two_samples() -> None:
    random = np.random.default_rng(3)
    samples = random.exponential(size=25), random.gamma(2, size=14)

    def difference(a: np.ndarray, b: np.ndarray, axis: int = -1) -> np.ndarray:
        return a.mean(axis=axis) - b.mean(axis=axis)

    theirs = stats.bootstrap(samples, difference, n_resamples=999, method="BCa", rng=1)
    left_out = [difference(np.delete(samples[0], i), samples[1]) for i in range(25)]
    left_out += [difference(samples[0], np.delete(samples[1], i)) for i in range(14)]
    ours = bca_interval(
        difference(*samples),
        theirs.bootstrap_distribution,
        np.array(left_out),
        strata=np.repeat([0, 1], [25, 14]),
    )
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=1e-9)


def test_the_jackknife_leaves_out_each_patient_and_estimates_use_it() -> None:
    p = binary(30, 1, seed=0)
    patients = ["a", "b", None, "a", None, "c"] * 5
    patients = [name and f"{name}{row // 12}" for row, name in enumerate(patients)]
    bootstrap = Bootstrap(replicates=400, method="bca")
    left_out = bootstrap.jackknife(ACCURACY, p, patients)["accuracy"].values
    right = (p.targets == p.predicted).astype(float)
    units = [name or str(row) for row, name in enumerate(patients)]
    expected = [right[[name != unit for name in units]].mean() for unit in dict.fromkeys(units)]
    assert left_out == pytest.approx(expected, abs=1e-9)

    estimate = bootstrap.estimate(ACCURACY, p, patients)["accuracy"]
    replicates = bootstrap.replicate(ACCURACY, p, patients)["accuracy"]
    ends = bca_interval(right.mean(), replicates, left_out)
    assert (estimate.ci_low, estimate.ci_high) == pytest.approx(ends)


def test_a_bca_interval_that_cannot_be_formed_is_nan_with_a_reason() -> None:
    perfect = Predictions(
        np.array([0, 1, 0]), np.array([0, 1, 0]), np.eye(2)[[0, 1, 0]], ["a", "b"]
    )
    estimate = Bootstrap(replicates=50, method="bca").estimate(ACCURACY, perfect)["accuracy"]
    assert estimate.value == 1
    assert math.isnan(estimate.ci_low)
    assert "no BCa interval" in estimate.note


def test_many_units_are_left_out_in_groups_with_the_same_acceleration() -> None:
    values = np.random.default_rng(0).exponential(size=12_000)
    score = PooledScore.mean("x", values)
    bootstrap = Bootstrap(replicates=300, method="bca")
    grouped = bootstrap.jackknife({"x": score.metric()}, score)["x"]
    assert len(grouped.values) == 2000
    centred = values - values.mean()
    exact = (centred**3).sum() / (6 * (centred**2).sum() ** 1.5)

    # Both estimate the skewness of the mean; that of groups is noisier.
    assert acceleration(grouped.values) == pytest.approx(exact, rel=0.5)


def test_a_stratified_bootstrap_keeps_the_size_of_every_class() -> None:
    classes = np.array([0] * 20 + [1] * 5 + [2] * 3)
    bootstrap = Bootstrap(replicates=50, stratified=True)
    weights = np.concatenate(list(bootstrap.weights(28, classes=classes)), axis=1)
    for c, size in enumerate((20, 5, 3)):
        assert (weights[classes == c].sum(axis=0) == size).all()
    # A patient with images of two classes is drawn among those of the rarer one.
    patients = [*range(19), "mixed", *range(30, 35), "mixed", 40, 41]
    weights = np.concatenate(list(bootstrap.weights(28, patients, classes)), axis=1)
    assert (weights[19] == weights[25]).all()
    assert (weights[25:].sum(axis=0) == 3).all()


def test_delong_equals_the_sums_over_all_pairs() -> None:
    first = binary(60, 1.0, seed=1)
    second = binary(60, 0.6, seed=2, targets=first.targets)
    positive = first.targets == 1
    kernels = []
    for p in (first, second):
        x, y = p.scores[positive, 1][:, None], p.scores[~positive, 1][None, :]
        kernels.append((x > y) + 0.5 * (x == y))
        won, lost = placements(positive, p.scores[:, 1])
        assert won == pytest.approx(kernels[-1].mean(axis=1))
        assert lost == pytest.approx(kernels[-1].mean(axis=0))
    v10, v01 = ([k.mean(axis=axis) for k in kernels] for axis in (1, 0))
    m, n = len(v10[0]), len(v01[0])
    covariance = np.cov(v10) / m + np.cov(v01) / n
    error = math.sqrt(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1])
    found = delong(positive, first.scores[:, 1], second.scores[:, 1])
    areas = [roc_auc_score(positive, p.scores[:, 1]) for p in (first, second)]
    assert [found.first, found.second] == pytest.approx(areas)
    assert found.standard_error == pytest.approx(error, abs=1e-12)
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(areas[0] - areas[1]) / error))


def test_delong_of_patients_is_wider_when_their_images_are_copies() -> None:
    first = binary(80, 1.0, seed=1)
    second = binary(80, 0.6, seed=2, targets=first.targets)
    once = delong(first.targets == 1, first.scores[:, 1], second.scores[:, 1])
    rows = np.repeat(np.arange(80), 3)
    copied = delong(
        first.targets[rows] == 1, first.scores[rows, 1], second.scores[rows, 1], unit=rows
    )
    assert copied.standard_error == pytest.approx(once.standard_error, rel=1e-9)
    blind = delong(first.targets[rows] == 1, first.scores[rows, 1], second.scores[rows, 1])
    assert blind.standard_error < 0.6 * copied.standard_error
    same = delong(first.targets == 1, first.scores[:, 1], first.scores[:, 1])
    assert math.isnan(same.p)


def test_mcnemar_equals_statsmodels_and_counts_patients() -> None:
    random = np.random.default_rng(0)
    first, second = random.random(50) < 0.8, random.random(50) < 0.6
    cells = [[np.sum((first == a) & (second == b)) for b in (True, False)] for a in (True, False)]
    assert mcnemar_p(first, second) == pytest.approx(mcnemar(cells, exact=True).pvalue)
    assert mcnemar_p(first, first) == 1

    alone = mcnemar_p(first, second, unit=np.arange(50))
    theirs = mcnemar(cells, exact=False, correction=False).pvalue
    assert alone == pytest.approx(theirs)
    copied = mcnemar_p(*(np.repeat(x, 4) for x in (first, second)), unit=np.repeat(range(50), 4))
    assert copied == pytest.approx(alone)


def test_the_permutation_test_equals_all_swaps_counted() -> None:
    first, second = binary(10, 2.0, seed=5), binary(10, 0.0, seed=6)
    second = replace(second, targets=first.targets)
    unit = np.array([0, 0, 1, 2, 3, 3, 4, 5, 6, 6])
    ranks = [stats.rankdata(p.scores, axis=0) for p in (first, second)]
    predicted = [p.predicted for p in (first, second)]
    differences: dict[str, list[float]] = {"macro_auroc": [], "accuracy": []}
    for swaps in product((False, True), repeat=7):
        swap = np.array(swaps)[unit]
        scores = [np.where(swap[:, None], *pair) for pair in (ranks[::-1], ranks)]
        said = [np.where(swap, *pair) for pair in (predicted[::-1], predicted)]
        auroc = [
            np.mean([roc_auc_score(first.targets == c, s[:, c]) for c in (0, 1)]) for s in scores
        ]
        differences["macro_auroc"].append(abs(auroc[0] - auroc[1]))
        right = [np.mean(first.targets == s) for s in said]
        differences["accuracy"].append(abs(right[0] - right[1]))
    exact = {name: np.mean(np.array(d) >= d[0] - 1e-9) for name, d in differences.items()}
    metrics = {name: CLASSIFICATION_METRICS[name] for name in differences}
    found = permutation_p(metrics, first, second, unit, permutations=20_000)
    assert found == pytest.approx(exact, abs=0.015)
    assert permutation_p(metrics, first, first, unit, 10) == {"macro_auroc": 1, "accuracy": 1}


def test_p_values_are_uniform_where_the_encoders_are_equally_good() -> None:
    found: dict[str, list[float]] = {"bootstrap": [], "permutation": [], "delong": [], "paper": []}
    for seed in range(60):
        first = binary(80, 1.0, seed=2 * seed)
        second = binary(80, 1.0, seed=2 * seed + 1, targets=first.targets)
        auroc = {"macro_auroc": CLASSIFICATION_METRICS["macro_auroc"]}
        bootstrap = Bootstrap(replicates=200, seed=seed)
        a, b = (bootstrap.replicate(auroc, p)["macro_auroc"] for p in (first, second))
        found["bootstrap"].append(bootstrap_p(a - b))
        found["paper"].append(paper_t_test(a, b))
        unit = np.arange(80)
        found["permutation"] += permutation_p(auroc, first, second, unit, 200, seed).values()
        found["delong"].append(
            delong(first.targets == 1, first.scores[:, 1], second.scores[:, 1]).p
        )
    wrong = {name: np.mean(np.array(p) < 0.05) for name, p in found.items()}
    assert all(wrong[name] < 0.15 for name in ("bootstrap", "permutation", "delong")), wrong
    assert wrong["paper"] > 0.8  # what the paper's test is worth


def test_permutation_takes_every_kind_of_answer() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=40)
    near, far = (RegressionPredictions(truth, truth + s * random.normal(size=40)) for s in (0.1, 2))
    labels = random.integers(-1, 2, (40, 3))
    names = ["x", "y", "z"]
    good, bad = (
        MultilabelPredictions(labels, s > 0.5, s, names)
        for s in (labels + random.normal(size=(40, 3)) / 4, random.normal(size=(40, 3)))
    )
    dice = PooledScore.mean("Dice", truth), PooledScore.mean("Dice", truth + 1)
    cases = [
        (REGRESSION_METRICS, near, far),
        (MULTILABEL_METRICS, good, bad),
        ({"dice": dice[0].metric()}, *dice),
    ]
    for metrics, first, second in cases:
        p = permutation_p(metrics, first, second, np.arange(40), 200)
        assert set(p) == set(metrics)
        assert all(value < 0.02 for value in p.values()), p


def test_holm_friedman_and_nemenyi() -> None:
    p = np.array([0.01, np.nan, 0.04, 0.03, 0.04, 0.6, 0.0])
    adjusted = holm(p)
    tests = ~np.isnan(p)
    assert (np.isnan(adjusted) == ~tests).all()
    assert adjusted[tests] == pytest.approx(multipletests(p[tests], method="holm")[1])
    assert np.isnan(holm(np.array([np.nan]))).all()

    values = np.random.default_rng(0).normal(size=(12, 4)) + np.array([0, 0, 0.5, 2])
    found = compare_ranks(values)
    assert found.p == pytest.approx(stats.friedmanchisquare(*values.T).pvalue)
    assert found.mean_ranks.argmin() == 3
    assert found.mean_ranks.sum() == pytest.approx(10)
    # Demsar 2006, table 5: critical values of the Nemenyi test at 0.05.
    for k, q in {2: 1.960, 3: 2.343, 5: 2.728, 10: 3.164}.items():
        tied = compare_ranks(np.zeros((15, k)))
        assert tied.critical_difference == pytest.approx(
            q * math.sqrt(k * (k + 1) / (6 * 15)), rel=3e-4
        )
        assert math.isnan(tied.p)
        assert tied.pairwise_p == pytest.approx(np.ones((k, k)))


def test_the_papers_interval_is_mean_and_variance() -> None:
    replicates = np.array([0.5, 0.7, np.nan, 0.9])
    assert paper_interval(replicates) == pytest.approx((0.7 - 0.04, 0.7 + 0.04))
    assert paper_interval(replicates, deviation=True) == pytest.approx((0.5, 0.9))
    assert all(math.isnan(end) for end in paper_interval(np.array([0.5])))
    a, b = np.random.default_rng(0).normal(size=(2, 30))
    assert paper_t_test(a, b) == pytest.approx(stats.ttest_rel(a, b).pvalue)
    assert math.isnan(paper_t_test(a, a))


def make_results(folder: Path, encoders: dict[str, dict[str, Predictions]]) -> Path:
    """Write a results folder with one protocol, as an evaluation leaves it."""
    rows, tasks = [], {}
    for encoder, answers in encoders.items():
        for task, p in answers.items():
            tasks[task] = p
            n = len(p)
            columns = {
                "image": [f"{i}.png" for i in range(n)],
                **p.columns(),
                "cluster": [i // 2 for i in range(n)],
            }
            path = folder / "predictions" / task / f"{encoder}.linear.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(columns), path)
            for metric in ("macro_auroc", "accuracy"):
                rows.append(
                    {
                        "encoder": encoder,
                        "task": task,
                        "protocol": "linear",
                        "subgroup": "all",
                        "metric": metric,
                        **dict.fromkeys(
                            ("value", "ci_low", "ci_high"),
                            CLASSIFICATION_METRICS[metric].value(p)[0],
                        ),
                        "n": n,
                        "seen_in_pretraining": "none",
                        "run_id": "r",
                        "note": "",
                    }
                )
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False, na_rep="nan")
    records = [
        {"name": t, "kind": "classification", "classes": p.classes, "bootstrap_unit": "patient_id"}
        for t, p in tasks.items()
    ]
    write_json(folder / "evaluation.json", {"tasks": records})
    return folder


@pytest.fixture
def results(tmp_path: Path) -> Path:
    truth = {task: binary(60, 1, seed=9 + n).targets for n, task in enumerate(("skin", "nail"))}
    return make_results(
        tmp_path,
        {
            name: {task: binary(60, skill, seed, targets) for task, targets in truth.items()}
            for seed, (name, skill) in enumerate((("weak", 0.0), ("good", 2.0), ("better", 2.5)))
        },
    )


def test_compare_tests_every_pair_and_adjusts_each_family(results: Path) -> None:
    rows = compare(results, metrics=["macro_auroc", "accuracy"], replicates=200, permutations=300)
    read = pd.read_csv(results / "comparisons.csv", keep_default_na=False, na_values=["nan"])
    pd.testing.assert_frame_equal(read, rows, check_dtype=False)
    assert set(zip(rows["metric"], rows["test"], strict=True)) == {
        ("macro_auroc", "bootstrap"),
        ("macro_auroc", "permutation"),
        ("macro_auroc", "delong"),
        ("accuracy", "bootstrap"),
        ("accuracy", "permutation"),
        ("accuracy", "mcnemar"),
    }
    assert len(rows) == 2 * 3 * 6
    assert set(rows["family"]) == {3}
    for _, family in rows.groupby(["task", "protocol", "metric", "test"]):
        assert family["p_holm"].to_numpy() == pytest.approx(holm(family["p"].to_numpy()))
    first = rows[(rows["encoder"] == "weak") & (rows["other"] == "good")]
    assert (first["difference"] < 0).all()
    assert (first["p_holm"] < 0.05).all()
    ranks = pd.read_csv(results / "ranks.csv")
    assert set(ranks["tasks"]) == {2}
    assert ranks["note"].str.contains("fewer than 5 tasks").all()
    assert ranks.groupby("metric")["mean_rank"].sum().to_list() == [6, 6]


def test_compare_with_a_baseline_over_all_tasks_and_by_bca(results: Path) -> None:
    rows = compare(
        results, "weak", ["accuracy"], family="all", interval="bca", permutations=0, replicates=200
    )
    assert set(rows["other"]) == {"weak"}
    assert set(rows["test"]) == {"bootstrap", "mcnemar"}
    assert set(rows["family"]) == {4}
    assert (rows["ci_low"] < rows["difference"]).all()
    assert (rows["difference"] < rows["ci_high"]).all()


def test_the_papers_statistics_come_with_a_warning(results: Path) -> None:
    rows = compare(results, statistics="paper", replicates=100)
    assert set(rows["test"]) == {"paper-t-test"}
    assert rows["note"].str.contains("takes replicates for patients").all()
    authors = compare(results, statistics="authors", replicates=100)
    assert authors["note"].str.contains("about 68 %").all()
    assert (authors["p"].fillna(-1) == rows["p"].fillna(-1)).all()
    wider = authors["ci_high"].sub(authors["ci_low"]) > rows["ci_high"].sub(rows["ci_low"])
    assert wider[rows["p"].notna()].all()
    with pytest.raises(UserError, match="does not go with"):
        compare(results, statistics="paper", interval="bca")


def test_compare_says_what_is_undefined_or_wrong(results: Path, tmp_path: Path) -> None:
    path = results / "predictions" / "skin" / "good.linear.parquet"
    table = pq.read_table(path)
    broken = table.set_column(
        table.column_names.index("score:benign"), "score:benign", pa.array([math.nan] * 60)
    )
    pq.write_table(broken, path)
    rows = compare(results, tasks=["skin"], metrics=["accuracy"], permutations=0, replicates=20)
    undefined = rows[rows["difference"].isna()]
    assert len(undefined) == 2
    assert undefined["note"].str.contains("not finite numbers").all()
    assert rows["p_holm"].notna().sum() == 2

    pq.write_table(table.slice(1), path)
    with pytest.raises(UserError, match="about different images"):
        compare(results)
    with pytest.raises(UserError, match="Unknown encoder in the results 'goood'"):
        compare(results, baseline="goood")
    with pytest.raises(UserError, match="There are no results"):
        compare(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
