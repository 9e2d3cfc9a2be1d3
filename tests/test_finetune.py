"""Fine-tuning at tiny scale: it learns, stops, and goes on after a kill with equal results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dermino.data.manifest import Manifest
from dermino.errors import UserError
from dermino.evaluate import finetuning
from dermino.evaluate.derive import derive_tasks
from dermino.evaluate.finetuning import FinetunedEncoder, TrainingImages, flips_and_turns
from dermino.evaluate.protocol import Trial
from dermino.evaluate.protocols import finetune
from dermino.evaluate.protocols.finetune import Finetune
from dermino.models.load import load_encoder

COLOURS = {"bruise": (80, 40, 160), "burn": (200, 60, 40)}
QUICK = Finetune(epochs=3, warmup_epochs=1, batch_size=8, learning_rate=2e-3, views=2, erasing=0)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """Two colours, one three times as frequent; a vision transformer with random weights."""
    folder = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    rows = []
    for label, n in (("bruise", 24), ("burn", 8)):
        for number in range(n):
            pixels = np.clip(random.normal(COLOURS[label], 30, (36, 40, 3)), 0, 255)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{label}{number}.png")
            split = ("train", "train", "val", "test")[number % 4]
            rows.append({"image": f"{label}{number}.png", "split": split, "labels": [label]})
    frame = pd.DataFrame(rows).assign(dataset="skin")
    task = derive_tasks(Manifest.from_frame(frame, folder))[0][0]
    encoder = load_encoder("random:test_vit", 32)
    return Trial(task, np.empty((len(rows), 0), np.float32), encoder=encoder, workers=0)


def scores(outcome: Any) -> np.ndarray:
    return outcome.predictions.scores


def with_work(trial: Trial, work: Path) -> Trial:
    return Trial(**{**vars(trial), "work": work})


def test_a_killed_training_goes_on_to_the_same_result(
    trial: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trial.encoder is not None
    before = trial.encoder.identity
    whole = QUICK.run(with_work(trial, tmp_path / "whole"))
    assert isinstance(whole.validation_rows, np.ndarray)
    assert whole.validation is not None
    assert len(whole.validation) == len(whole.validation_rows)

    def die(folder: Path | None, state: dict[str, Any]) -> None:
        finetuning.write_checkpoint(folder, state)
        if state["epoch"] == 2:
            raise KeyboardInterrupt

    killed = with_work(trial, tmp_path / "killed")
    monkeypatch.setattr(finetune, "write_checkpoint", die)
    with pytest.raises(KeyboardInterrupt):
        QUICK.run(killed)
    monkeypatch.undo()
    torch.manual_seed(99)
    np.testing.assert_array_equal(scores(QUICK.run(killed)), scores(whole))
    vars(trial.encoder).pop("identity")
    assert trial.encoder.identity == before
    assert not any(weight.requires_grad for weight in trial.encoder.parameters())


def test_it_learns(trial: Trial) -> None:
    protocol = Finetune(
        epochs=12, warmup_epochs=1, batch_size=8, learning_rate=2e-3, views=1, mixup=0, cutmix=0,
        auto_augment="", erasing=0, drop_path=0, layer_decay=0.9, monitor="macro_auroc",
    )  # fmt: skip
    outcome: Any = protocol.run(trial)
    assert (outcome.predictions.predicted == outcome.predictions.targets).mean() > 0.8


def test_it_stops_without_improvement(trial: Trial, capfd: pytest.CaptureFixture[str]) -> None:
    still = QUICK.model_copy(update={"epochs": 9, "patience": 2, "learning_rate": 1e-12})
    outcome = still.run(trial)
    assert outcome.scores["best_epoch"].value == 1  # type: ignore[union-attr]
    printed = capfd.readouterr().err
    assert "Epoch 3 of 9" in printed
    assert "Epoch 4 of 9" not in printed


def test_layers_learn_slower_the_lower_they_lie(trial: Trial) -> None:
    assert trial.encoder is not None
    model = FinetunedEncoder(trial.encoder, 2, drop_path=0.2)
    scale = {}
    names = {id(weight): name for name, weight in model.named_parameters()}
    for group in model.parameter_groups(0.05, 0.65):
        for weight in group["params"]:
            scale[names[id(weight)]] = group.get("lr_scale", 1.0)
            assert weight.ndim > 1 or group["weight_decay"] == 0
    assert set(scale) == set(names.values())
    depth = len(trial.encoder.backbone.blocks)
    for block in range(depth):
        key = f"encoder.backbone.blocks.{block}.mlp.fc1.weight"
        assert scale[key] == pytest.approx(0.65 ** (depth - block))
    assert scale["head.weight"] == 1
    rates = [block.drop_path1 for block in model.encoder.backbone.blocks]
    assert rates[-1].drop_prob == pytest.approx(0.2)
    assert isinstance(rates[0], torch.nn.Identity)


def test_classes_are_drawn_equally_often(trial: Trial) -> None:
    rows = trial.task.rows("train")
    random = np.random.default_rng(0)
    drawn = np.concatenate([QUICK._draw(trial.task, rows, random) for _ in range(200)])
    assert trial.task.targets[drawn].mean() == pytest.approx(0.5, abs=0.03)
    plain = Finetune(balanced_sampling=False)._draw(trial.task, rows, random)
    np.testing.assert_array_equal(np.sort(plain), rows)


def test_augmentation_depends_on_its_seed_alone(trial: Trial) -> None:
    assert trial.encoder is not None
    policy = Finetune().auto_augment
    images = TrainingImages(trial.task.manifest.paths(), trial.encoder.preprocess, policy, 0.5)
    first = images[0, 5]
    torch.rand(3)
    assert torch.equal(images[0, 5], first)
    assert not torch.equal(images[0, 6], first)
    state = torch.random.get_rng_state()
    images[1, 7]
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_strongest_augmentation_works(trial: Trial) -> None:
    assert trial.encoder is not None
    paths = trial.task.manifest.paths()
    images = TrainingImages(paths, trial.encoder.preprocess, "rand-m10-n9-inc1", 0.0)
    for seed in range(20):
        assert images[0, seed].isfinite().all()


def test_views_and_refusals(trial: Trial) -> None:
    pixels = torch.arange(2 * 3 * 4 * 4).view(2, 3, 4, 4).float()
    views = list(flips_and_turns(pixels, 5))
    assert len({tuple(view.flatten().tolist()) for view in views}) == 5
    assert torch.equal(next(iter(flips_and_turns(pixels, 1))), pixels)
    few = trial.with_training_rows(trial.task.rows("train")[:3])
    with pytest.raises(UserError, match="has 3 training images"):
        QUICK.check(few.task)
