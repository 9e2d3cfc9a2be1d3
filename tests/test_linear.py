"""Linear probes: their optimum, their choice on validation rows, every kind of target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from dermino.data.manifest import Manifest
from dermino.errors import UserError
from dermino.evaluate.linear_head import fit_lbfgs, new_head
from dermino.evaluate.multilabel import MultilabelPredictions
from dermino.evaluate.protocol import EvaluationProtocol, Trial
from dermino.evaluate.protocols.linear import LinearProbe
from dermino.evaluate.protocols.linear_official import OfficialLinearProbe
from dermino.evaluate.protocols.linear_panderm import PanDermLinearProbe
from dermino.evaluate.protocols.linear_tuned import TunedLinearProbe
from dermino.evaluate.readout import LabelReadout, LevelReadout
from dermino.evaluate.regression import RegressionPredictions
from dermino.evaluate.task import Task, TaskKind

PROBES = (
    LinearProbe(batch_size=32),
    PanDermLinearProbe(cost=50),
    TunedLinearProbe(costs=(0.01, 1.0)),
)


def make_trial(kind: TaskKind = "classification", n: int = 600, with_val: bool = True) -> Trial:
    """Features in 16 dimensions, three of which tell the target."""
    random = np.random.default_rng(0)
    features = random.normal(size=(n, 16)).astype(np.float32)
    signal = features[:, :3] + 0.3 * random.normal(size=(n, 3))
    targets: np.ndarray
    if kind == "multilabel":
        targets = (signal > 0).astype(np.int64)
        targets[random.random(targets.shape) < 0.1] = -1
    elif kind == "regression":
        targets = 50 + 10 * signal[:, 0].astype(np.float64)
    elif kind == "ordinal":
        targets = np.digitize(signal[:, 0], [-0.7, 0.7])
    else:
        targets = signal.argmax(axis=1)
    parts = ["train", "val", "test"] if with_val else ["train", "test"]
    frame = pd.DataFrame(
        {
            "image": [f"{row}.png" for row in range(n)],
            "dataset": "toy",
            "split": random.choice(parts, n),
            "labels": [[]] * n,
        }
    )
    classes = () if kind == "regression" else ("a", "b", "c")
    task = Task("toy", Manifest.from_frame(frame, "."), "labels", classes, targets, kind=kind)
    return Trial(task, features)


def test_lbfgs_finds_the_optimum_of_scikit_learn() -> None:
    given = make_trial()
    x, y = given.part("train")
    test, _ = given.part("test")
    for cost in (0.01, 1.0):
        probe = PanDermLinearProbe(cost=cost, penalty="squared")
        reference = LogisticRegression(C=cost, tol=1e-8, max_iter=5000).fit(x.numpy(), y.numpy())
        predictions: Any = probe.run(given).predictions
        np.testing.assert_allclose(
            predictions.scores, reference.predict_proba(test.numpy()), atol=2e-3
        )


def test_panderm_probe_penalises_the_norm_itself_and_ignores_validation() -> None:
    given = make_trial()
    x, y = given.part("train")
    cost = 20.0

    def objective(flat: np.ndarray) -> tuple[float, np.ndarray]:
        free = torch.tensor(flat, requires_grad=True)
        weight, bias = free[:48].view(3, 16), free[48:]
        logits = x.double() @ weight.T + bias
        value = torch.nn.functional.cross_entropy(logits, y) + weight.norm() / (2 * cost)
        value.backward()
        assert free.grad is not None
        return value.item(), free.grad.numpy()

    best = minimize(objective, np.full(51, 0.01), jac=True, options={"gtol": 1e-7}).x
    logits = given.part("test")[0].double().numpy() @ best[:48].reshape(3, 16).T + best[48:]
    expected = softmax(logits, axis=1)
    outcome = PanDermLinearProbe(cost=cost).run(given)
    predictions: Any = outcome.predictions
    np.testing.assert_allclose(predictions.scores, expected, atol=1e-3)

    changed = given.features.copy()
    changed[given.task.rows("val")] = 0
    again: Any = PanDermLinearProbe(cost=cost).run(Trial(given.task, changed)).predictions
    np.testing.assert_array_equal(again.scores, predictions.scores)

    wide = Trial(given.task, np.tile(given.features, 8))
    default: Any = PanDermLinearProbe().run(wide).predictions
    named: Any = PanDermLinearProbe(cost=16 * 8 * 3 / 100).run(wide).predictions
    np.testing.assert_array_equal(default.scores, named.scores)


def test_official_probe_keeps_the_epoch_of_the_best_test_accuracy_and_says_so() -> None:
    given = make_trial(n=150)

    def test_accuracy(probe: LinearProbe) -> float:
        predictions: Any = probe.run(given).predictions
        return float((predictions.predicted == predictions.targets).mean())

    # Noise in 16 dimensions and few steps: accuracy rises and falls from one epoch to the next.
    official = OfficialLinearProbe(epochs=20, learning_rate=0.3, batch_size=8)
    honest = LinearProbe(epochs=20, learning_rate=0.3, batch_size=8)
    outcome = official.run(given)
    best: Any = outcome.scores["best_test_accuracy"]
    assert best.value == test_accuracy(official) > test_accuracy(honest)
    assert "too high" in best.note
    assert outcome.validation is None


def test_steps_set_the_length_of_a_probe() -> None:
    given = make_trial(n=500, with_val=False)
    rows = len(given.task.rows("train"))
    steps = 3 * -(-rows // 64)
    passes: Any = LinearProbe(epochs=3, batch_size=64).run(given).predictions
    counted: Any = LinearProbe(epochs=3, batch_size=64, steps=steps).run(given).predictions
    np.testing.assert_array_equal(passes.scores, counted.scores)
    few: Any = LinearProbe(epochs=50, steps=5, weight_std=0, batch_size=rows).run(given).predictions
    x, y = (part.double() for part in given.part("train"))
    layer = torch.nn.Linear(16, 3).double()
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    adam = torch.optim.Adam(layer.parameters(), 5e-3)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 5)
    for _ in range(5):
        adam.zero_grad()
        torch.nn.functional.cross_entropy(layer(x), y.long()).backward()
        adam.step()
        cosine.step()
    expected = layer(given.part("test")[0].double()).softmax(dim=1).detach().numpy()
    np.testing.assert_allclose(few.scores, expected, atol=1e-6)


def test_tuned_probe_chooses_on_validation_rows_only() -> None:
    given = make_trial()
    probe = TunedLinearProbe(costs=(1e-6, 1e-3, 1e-1))
    outcome = probe.run(given)
    predictions: Any = outcome.predictions
    assert outcome.scores["chosen_cost"].value > 1e-6  # type: ignore[union-attr]

    corrupted = given.task.targets.copy()
    corrupted[given.task.rows("test")] = 0
    task = Task(**{**vars(given.task), "targets": corrupted})
    again: Any = probe.run(Trial(task, given.features)).predictions
    np.testing.assert_array_equal(again.scores, predictions.scores)


def test_tuned_probe_takes_validation_rows_from_the_training_rows() -> None:
    given = make_trial(with_val=False)
    outcome = TunedLinearProbe(costs=(1.0,)).run(given)
    assert outcome.validation_rows is not None
    assert outcome.validation is not None
    assert set(outcome.validation_rows) < set(given.task.rows("train"))
    assert len(outcome.validation) == len(outcome.validation_rows)

    refitted = TunedLinearProbe(costs=(1.0,), refit=True).run(given)
    assert refitted.validation is None
    alone = make_trial(n=2, with_val=False)
    lonely = alone.with_training_rows(alone.task.rows("train")[:1])
    with pytest.raises(UserError, match="none to validate on"):
        TunedLinearProbe().check(lonely.task)


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: type(probe).__name__)
def test_every_probe_learns_every_kind(probe: EvaluationProtocol) -> None:
    for kind in ("classification", "ordinal", "multilabel", "regression"):
        given = make_trial(kind)
        assert probe.can_answer(given.task)
        outcome = probe.run(given)
        for predictions, split in ((outcome.predictions, "test"), (outcome.validation, "val")):
            assert predictions is not None
            assert len(predictions) == len(given.task.rows(split))
        found: Any = outcome.predictions
        if isinstance(found, RegressionPredictions):
            assert np.corrcoef(found.targets, found.predicted)[0, 1] > 0.8
            assert abs(found.predicted.mean() - 50) < 3
        elif isinstance(found, MultilabelPredictions):
            known = found.known
            assert (found.predicted == (found.targets == 1))[known].mean() > 0.75
        else:
            assert (found.predicted == found.targets).mean() > 0.6


def test_unknown_labels_teach_nothing() -> None:
    readout = LabelReadout(("a", "b"))
    logits = torch.tensor([[0.3, -1.0], [2.0, 0.5]], requires_grad=True)
    readout.loss(logits, torch.tensor([[1, -1], [0, 1]])).backward()
    assert logits.grad is not None
    assert logits.grad[0, 1] == 0
    assert (logits.grad[[0, 1, 1], [0, 0, 1]] != 0).all()


def test_levels_give_probabilities_in_the_order_of_the_classes() -> None:
    readout = LevelReadout(("mild", "moderate", "severe"))
    logits = np.array([[3.0, -2.0], [-3.0, 1.0], [4.0, 4.0]])
    found = readout.answer(logits, np.array([1, 0, 2]))
    np.testing.assert_allclose(found.scores.sum(axis=1), 1)
    assert (found.scores >= 0).all()
    assert found.predicted.tolist() == [1, 0, 2]
    for probe in (
        LinearProbe(levels=True, batch_size=32),
        TunedLinearProbe(levels=True, costs=(1.0,)),
    ):
        answered: Any = probe.run(make_trial("ordinal")).predictions
        assert (answered.predicted == answered.targets).mean() > 0.6


def test_a_class_without_training_rows_is_survived() -> None:
    given = make_trial()
    keep = given.task.rows("train")
    keep = keep[given.task.targets[keep] != 2]
    predictions: Any = PanDermLinearProbe(cost=50).run(given.with_training_rows(keep)).predictions
    assert (predictions.predicted != 2).all()


def test_lbfgs_stops_at_the_optimum_and_starts_from_a_seed() -> None:
    given = make_trial()
    x, y = given.part("train")
    readout = LabelReadout(("a", "b", "c"))
    first, second = (new_head(16, readout, seed) for seed in (0, 1))
    assert not torch.equal(first.weight, second.weight)
    targets = torch.nn.functional.one_hot(y, 3)
    for head in (first, second):
        fit_lbfgs(head, x, targets, readout, lambda weight: 0.01 * weight.square().sum(), 500)
    torch.testing.assert_close(first.weight, second.weight, atol=1e-3, rtol=0)
