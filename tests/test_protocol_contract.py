"""What a protocol may ask for and bring back, tested with protocols made for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import Field

from dermino.data.manifest import Manifest
from dermino.errors import UserError
from dermino.evaluate.analysis import ANALYSES, Analysis, Answered
from dermino.evaluate.evaluate import evaluate
from dermino.evaluate.multilabel import MultilabelPredictions
from dermino.evaluate.pooled import Aggregate, PooledScore
from dermino.evaluate.protocol import (
    PROTOCOLS,
    EvaluationProtocol,
    Outcome,
    Trial,
    configure_protocols,
)
from dermino.evaluate.task import Task, TaskKind


class Overlap(EvaluationProtocol):
    """Claims an overlap for every mask, and keeps what a real one would."""

    title: ClassVar[str] = "Overlap"
    description: ClassVar[str] = "Tests the contract."
    kinds: ClassVar[frozenset[TaskKind]] = frozenset({"segmentation"})
    needs: ClassVar[Literal["features", "encoder"]] = "encoder"

    stop: bool = False
    level: float = Field(0.5, ge=0, le=1)

    def check(self, task: Task) -> None:
        if len(task.rows("test")) < 2:
            raise UserError("Two masks are needed.")

    def run(self, trial: Trial) -> Outcome:
        assert trial.encoder is not None
        assert trial.work is not None
        assert trial.files is not None
        assert trial.features.shape == (len(trial.task.targets), 0)
        checkpoint = trial.work / "checkpoint"
        if not checkpoint.exists():
            checkpoint.parent.mkdir(parents=True)
            checkpoint.touch()
            if self.stop:
                raise KeyboardInterrupt
        trial.files.mkdir(parents=True)
        (trial.files / "mask.png").touch()
        n = len(trial.task.rows("test"))
        dice = np.where(np.arange(n) == 0, np.nan, self.level)
        scores = {
            "dice": PooledScore.mean("Dice", dice),
            "dataset_dice": PooledScore.ratio("Dice", np.ones(n), np.full(n, 4.0)),
            "official_dice": Aggregate("Official Dice", 0.4, note="averaged over batches"),
        }
        return Outcome(None, {"predicted": ["mask.png"] * n}, scores)


class Frequencies(EvaluationProtocol):
    """Gives every image the labels' frequencies in training, as two protocols of a curve."""

    title: ClassVar[str] = "Frequencies"
    description: ClassVar[str] = "Tests the contract."
    kinds: ClassVar[frozenset[TaskKind]] = frozenset({"multilabel"})

    shares: tuple[float, ...] = (0.5, 1.0)

    def variants(self, name: str) -> Mapping[str, EvaluationProtocol]:
        return {
            f"{name}-{share:g}": Frequencies.model_validate({"shares": (share,)})
            for share in self.shares
        }

    def run(self, trial: Trial) -> Outcome:
        trial = trial.with_validation()
        train = trial.task.rows("train")
        trial = trial.with_training_rows(train[: int(self.shares[0] * len(train))])
        frequencies = trial.part("train")[1].double().mean(0).numpy()
        test, val = (self._answer(trial.task, part, frequencies) for part in ("test", "val"))
        rows = trial.task.rows("val")
        return Outcome(test, validation=val, validation_rows=rows)

    def _answer(self, task: Task, part: str, scores: np.ndarray) -> MultilabelPredictions:
        targets = task.targets[task.rows(part)]
        repeated = np.tile(scores, (len(targets), 1))
        return MultilabelPredictions(targets, repeated > 0.5, repeated, task.classes)


class Coverage(Analysis):
    """Counts what it was given."""

    title: ClassVar[str] = "Coverage"
    description: ClassVar[str] = "Tests the contract."
    kinds: ClassVar[frozenset[TaskKind]] = frozenset({"multilabel"})

    factor: int = 1

    def rows(self, answered: Answered) -> Sequence[Mapping[str, Any]]:
        assert answered.validation is not None
        n = len(answered.predictions)
        value = self.factor * len(answered.validation)
        return [{"subgroup": "sex=female", "metric": "covered", "value": value, "n": n}]


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    for registry, items in (
        (PROTOCOLS, {"overlap": Overlap, "frequencies": Frequencies}),
        (ANALYSES, {"coverage": Coverage}),
    ):
        registry.names()
        for name, item in items.items():
            monkeypatch.setitem(registry._items, name, item)


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    for name in ("image", "mask"):
        for row in range(12):
            pixels = np.full((20, 20, 3), 20 * row, np.uint8)
            Image.fromarray(pixels).save(tmp_path / f"{name}{row}.png")
    frame = pd.DataFrame(
        {
            "image": [f"image{row}.png" for row in range(12)],
            "dataset": "skin",
            "split": ["train", "train", "test"] * 4,
            "labels": [["a", "b"], ["b"], ["a"], ["a"], ["b"], ["a", "b"]] * 2,
            "mask": [f"mask{row}.png" for row in range(12)],
        }
    )
    path = tmp_path / "skin.parquet"
    Manifest.from_frame(frame, tmp_path).write(path)
    return path


def run(manifest: Path, **options: Any) -> pd.DataFrame:
    defaults: dict[str, Any] = {
        "encoders": ["tiny=random:resnet10t"],
        "data": [manifest],
        "out": manifest.parent / "results",
        "cache": manifest.parent / "cache",
        "image_size": 32,
        "replicates": 20,
        "workers": 0,
    }
    return evaluate(**{**defaults, **options})


def test_a_protocol_brings_scores_and_files_and_goes_on_from_its_checkpoints(
    manifest: Path,
) -> None:
    options: dict[str, Any] = {"target": "mask", "protocols": ["overlap"]}
    options["settings"] = ["overlap.stop=true", "overlap.level=0.75"]
    with pytest.raises(KeyboardInterrupt):
        run(manifest, **options)
    table = run(manifest, **options).set_index("metric")
    assert table.loc["dice", "value"] == pytest.approx(0.75)
    assert table.loc["dice", "note"] == "undefined for 1 of 4 images"
    assert table.loc["dataset_dice", ["value", "ci_low"]].tolist() == [0.25, 0.25]
    assert table.loc["official_dice", "note"] == "averaged over batches"
    assert np.isnan(table.loc["official_dice", "ci_low"])

    results = manifest.parent / "results"
    folder = results / "predictions" / "skin.mask"
    assert (folder / "tiny.overlap" / "mask.png").is_file()
    kept = pd.read_parquet(folder / "tiny.overlap.parquet")
    assert kept["value:dice"].isna().tolist() == [True, False, False, False]
    assert not list((results / "work").rglob("checkpoint"))

    # A changed mask is another task.
    (manifest.parent / "mask2.png").write_bytes((manifest.parent / "mask3.png").read_bytes())
    again = run(manifest, **{**options, "settings": ["overlap.level=0.75"]})
    assert set(again["run_id"]) != set(table["run_id"])


def test_variants_and_analyses_are_lines_of_their_own(manifest: Path) -> None:
    options: dict[str, Any] = {"kind": "multilabel", "protocols": ["frequencies"]}
    table = run(manifest, **options)
    assert set(table["protocol"]) == {"frequencies-0.5", "frequencies-1"}
    auroc = table[table["metric"] == "macro_auroc"]
    assert auroc["value"].isna().all()
    assert set(auroc["note"]) == {"no test image without a"}

    options |= {"analyses": ["coverage"], "settings": ["coverage.factor=10"]}
    for _ in range(2):
        rows = run(manifest, **options).query("metric == 'covered'")
        assert rows["value"].tolist() == [10, 10]
        assert set(rows["subgroup"]) == {"sex=female"}
        assert set(rows["run_id"]) == set(table["run_id"])


def test_protocols_are_configured_by_name_and_alias() -> None:
    made = configure_protocols(["retrieval", "wide=retrieval"], ["wide.k=20"])
    assert [made[name].parameters["k"] for name in ("retrieval", "wide")] == [5, 20]
    for specs, settings, message in (
        (["retrieval"], ["retrieval.K=20"], "Did you mean 'k'"),
        (["retrieval"], ["retrieval.k=0"], "greater than or equal to 1"),
        (["retrieval"], ["retrieva.k=2"], "Did you mean 'retrieval'"),
        (["retrieval", "retrieval=linear"], [], "Two protocols are called 'retrieval'"),
        (["retreival"], [], "Did you mean 'retrieval'"),
    ):
        with pytest.raises(UserError, match=message):
            configure_protocols(specs, settings)


def test_tasks_that_a_protocol_cannot_answer_are_refused_before_work(manifest: Path) -> None:
    with pytest.raises(UserError, match="answers a segmentation task"):
        run(manifest, target="mask", protocols=["retrieval"])
    parts = ["train"] * 11 + ["test"]
    Manifest.read(manifest).with_columns(split=parts).write(manifest)
    with pytest.raises(UserError, match="Two masks are needed"):
        run(manifest, target="mask", protocols=["overlap"])


def test_one_failure_does_not_stop_the_others(
    manifest: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(self: EvaluationProtocol, trial: Trial) -> Outcome:
        raise UserError("No language model.", "Get one.")

    monkeypatch.setattr(PROTOCOLS.get("retrieval"), "run", refuse)
    labels = [["a"], ["b"], ["a"], ["b"], ["a"], ["b"]] * 2
    Manifest.read(manifest).with_columns(labels=labels).write(manifest)
    with pytest.raises(UserError, match="tiny, skin, retrieval: No language model") as refused:
        run(manifest, protocols=["retrieval", "linear"])
    assert refused.value.message == "1 could not be done; the other results are kept."
    table = pd.read_csv(manifest.parent / "results" / "results.csv")
    assert set(table["protocol"]) == {"linear"}
    assert "skin, linear, 4 test images" in capfd.readouterr().out


def test_several_devices_give_the_same_results(manifest: Path) -> None:
    options: dict[str, Any] = {"protocols": ["retrieval", "linear"]}
    labels = [["a"], ["b"], ["a"], ["b"], ["a"], ["b"]] * 2
    Manifest.read(manifest).with_columns(labels=labels).write(manifest)
    alone = run(manifest, **options)
    shared = run(manifest, **options, device=["cpu", "cpu"], out=manifest.parent / "shared")
    pd.testing.assert_frame_equal(alone, shared)
