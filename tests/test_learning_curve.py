"""Parts of the training rows: nested, stratified, whole patients; and the curves made of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dermino.data.manifest import Manifest
from dermino.errors import UserError
from dermino.evaluate.pooled import Aggregate
from dermino.evaluate.protocol import Trial, configure_protocols
from dermino.evaluate.protocols.label_efficiency import LabelEfficiency
from dermino.evaluate.subsets import few_shot_rows, learn_from, panderm_order, stratified_order
from dermino.evaluate.task import Task

N = 1000


@pytest.fixture(scope="module")
def task() -> Task:
    """Three classes of 900, 80 and 20 rows; lesions of two rows, some of them alone."""
    random = np.random.default_rng(0)
    targets = np.repeat([0, 1, 2], [900, 80, 20])
    lesions = [None if row % 10 == 0 else f"l{row // 2}" for row in range(N)]
    frame = pd.DataFrame(
        {
            "image": [f"{row}.png" for row in range(N)],
            "dataset": "toy",
            "split": random.choice(["train", "val", "test"], N, p=[0.6, 0.1, 0.3]),
            "labels": [["abc"[target]] for target in targets],
            "lesion_id": lesions,
        }
    )
    return Task("toy", Manifest.from_frame(frame, Path()), "labels", ("a", "b", "c"), targets)


def test_stratified_samples_are_nested_and_hold_every_class_and_whole_lesions(task: Task) -> None:
    order, shares = stratified_order(task, 0, 0)
    assert sorted(order) == task.rows("train").tolist()
    train = np.bincount(task.targets[order])
    lesions = np.array(task.manifest.column("lesion_id"), object)
    for share in (0.01, 0.1, 0.5):
        sample, rest = order[shares < share], order[shares >= share]
        counts = np.bincount(task.targets[sample], minlength=3)
        assert (counts >= np.ceil(share * train)).all()
        assert (counts <= np.ceil(share * train) + 1).all()
        assert not set(lesions[sample]) & set(lesions[rest]) - {None}
    assert (shares < 1).all()
    assert not np.array_equal(order, stratified_order(task, 0, 1)[0])
    np.testing.assert_array_equal(order, stratified_order(task, 0, 0)[0])


def test_panderm_takes_the_head_of_pandas_sample(task: Task) -> None:
    rows = task.rows("train")
    frame = pd.DataFrame({"row": rows})
    expected = frame.sample(frac=1, random_state=42).head(int(len(rows) * 0.1))["row"]
    curve = LabelEfficiency(percent=(10,), sampling="panderm")
    np.testing.assert_array_equal(curve.rows(task, 7, 0), expected)
    assert not np.array_equal(panderm_order(task, 0), panderm_order(task, 1))


def test_shots_come_from_different_lesions_and_are_nested(task: Task) -> None:
    lesions = np.array(task.manifest.column("lesion_id"), object)
    smaller: set[int] = set()
    for k in (1, 4, 8):
        rows = few_shot_rows(task, k, 0, 0)
        available = np.bincount(task.targets[task.rows("train")])
        np.testing.assert_array_equal(np.bincount(task.targets[rows]), np.minimum(k, available))
        assert smaller <= set(rows)
        smaller = set(rows)
        of_many = [lesions[row] for row in rows if task.targets[row] == 0 and lesions[row]]
        assert len(set(of_many)) == len(of_many)


def test_validation_labels_are_not_used_beside_a_sample(task: Task) -> None:
    trial = learn_from(Trial(task, np.zeros((N, 2), np.float32)), task.rows("train")[:50])
    assert len(trial.task.rows("train")) == 50
    assert len(trial.task.rows("val")) == 0
    np.testing.assert_array_equal(trial.task.rows("test"), task.rows("test"))


def test_curves_rise_and_state_their_draws(task: Task) -> None:
    random = np.random.default_rng(1)
    features = random.normal(size=(N, 24)) + 0.8 * random.normal(size=(3, 24))[task.targets]
    trial = Trial(task, features.astype(np.float32))
    made = configure_protocols(
        ["label-efficiency", "few-shot", "training-size"],
        [
            "label-efficiency.percent=[2, 100]",
            "label-efficiency.settings.cost=30",
            "few-shot.shots=[2]",
            "few-shot.draws=2",
            "few-shot.probe=linear-tuned",
            "few-shot.settings={costs: [0.1], iterations: 20}",
            "training-size.images=[40]",
            "training-size.draws=1",
            "training-size.settings.cost=30",
        ],
    )
    assert list(made) == [
        "label-efficiency-2",
        "label-efficiency-100",
        "few-shot-2",
        "training-size-40",
    ]
    values: dict[str, float] = {}
    for name, protocol in made.items():
        outcome = protocol.run(trial)
        predictions: Any = outcome.predictions
        assert len(predictions) == len(task.rows("test"))
        mean = outcome.scores["mean_macro_auroc"]
        assert isinstance(mean, Aggregate)
        assert mean.ci_low <= mean.value <= mean.ci_high
        values[name] = mean.value
    assert values["label-efficiency-100"] > values["label-efficiency-2"] > 0.5
    sizes = [protocol.run(trial).scores["training_images"] for protocol in made.values()][1:]
    assert [size.value for size in sizes] == [len(task.rows("train")), 6, 40]  # type: ignore[union-attr]
    assert made["few-shot-2"].parameters["settings"]["costs"] == [0.1]


def test_wrong_probes_are_refused() -> None:
    for setting, message in (
        ("few-shot.probe=linera", "Did you mean 'linear'"),
        ("few-shot.probe=label-efficiency", "is a curve itself"),
        ("few-shot.settings.cots=1", "Did you mean 'cost'"),
        ("few-shot.shots=[0]", "greater than or equal to 1"),
    ):
        with pytest.raises(UserError, match=message):
            configure_protocols(["few-shot"], [setting])
