"""Monitors: figures by plain arithmetic, what is held out, and that training is left alone."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dermino.data.manifest import Manifest
from dermino.data.source_info import SourceInfo
from dermino.knowledge.build import build_taxonomy
from dermino.pretrain.config import MonitorConfig
from dermino.pretrain.method import METHODS
from dermino.pretrain.monitors.assignments import AssignmentTally
from dermino.pretrain.monitors.features import feature_rank, feature_spread, mean_cosine
from dermino.pretrain.monitors.figures import FIGURES, signs
from dermino.pretrain.monitors.held_out import hold_out
from dermino.pretrain.monitors.neighbours import neighbour_accuracy
from dermino.pretrain.monitors.watch import Watch
from dermino.pretrain.pretrain import pretrain
from dermino.pretrain.replay import replay
from tiny_run import TINY

QUIET = [*TINY, "loggers=[jsonl]"]
CLASSES = ["nevus", "melanoma", "psoriasis"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ninety pictures whose colour is their class; every second one belongs to a pair."""
    folder = tmp_path_factory.mktemp("archive")
    random = np.random.default_rng(0)
    rows = []
    for i in range(90):
        pixels = random.integers(0, 128, (70, 90, 3), dtype=np.uint8)
        pixels[..., i % 3] += 127
        Image.fromarray(pixels).save(folder / f"{i}.png")
        labels = [CLASSES[i % 3]] if i < 80 else []
        split = "val" if i % 5 == 0 else "test" if i % 5 == 1 else "train"
        rows.append((f"{i}.png", "clinic", labels, split, f"patient {i // 2}"))
    frame = pd.DataFrame(rows, columns=["image", "dataset", "labels", "split", "patient_id"])
    info = SourceInfo("clinic", vocabulary=tuple(CLASSES))
    manifest = Manifest.from_frame(frame, folder, [info])
    manifest.write(folder / "clinic.parquet")
    build_taxonomy([folder / "clinic.parquet"], text_encoder="char-ngrams").write(folder / "labels")
    return folder


@pytest.fixture(scope="module")
def run(archive: Path) -> Path:
    """A run of seven steps that holds labelled images out."""
    out = archive / "run"
    options = [*QUIET, "steps=7", "log_every=2", "monitor={every: 4, hold_out: true}"]
    pretrain([archive / "clinic.parquet"], out, archive / "labels", "demo", options)
    return out


def records(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_rank_of_orthogonal_directions_is_their_number() -> None:
    axes = torch.linalg.qr(torch.randn(40, 40, generator=torch.Generator().manual_seed(0)))[0]
    assert feature_rank(axes[:7]) == pytest.approx(7)
    assert feature_rank(torch.ones(20, 12)) == pytest.approx(1)
    assert feature_rank(torch.zeros(20, 12)) == 1  # and no NaN, which no limit would notice
    features = np.random.default_rng(0).normal(size=(30, 12)) + 1
    singular = np.linalg.svd(features, compute_uv=False)
    shares = singular / singular.sum()
    expected = math.exp(-(shares * np.log(shares)).sum())
    assert feature_rank(torch.from_numpy(features)) == pytest.approx(expected)


def test_spread_and_cosine_are_those_of_plain_loops() -> None:
    features = np.random.default_rng(1).normal(size=(9, 5)) + 0.5
    rows = features / np.linalg.norm(features, axis=1, keepdims=True)
    pairs = [rows[i] @ rows[j] for i in range(9) for j in range(9) if i != j]
    assert mean_cosine(torch.from_numpy(features)) == pytest.approx(np.mean(pairs))
    spread = rows.std(axis=0).mean() * 5**0.5
    assert feature_spread(torch.from_numpy(features)) == pytest.approx(spread)
    assert feature_spread(torch.ones(4, 5)) == pytest.approx(0, abs=1e-7)


def test_entropies_and_use_tell_the_two_collapses_from_health() -> None:
    def figures(*assignments: torch.Tensor) -> dict[str, float]:
        tally = AssignmentTally(8, torch.device("cpu"))
        for part in assignments:
            tally.add(part)
        return tally.read()

    one = torch.zeros(16, 8)
    one[:, 3] = 1
    names = ["prototypes_used", "entropy", "entropy_of_mean", "information"]
    assert list(figures(one).items()) == list(zip(names, [1 / 8, 0, 0, 0], strict=True))
    healthy = figures(*torch.eye(8).split(4))
    assert list(healthy.values()) == pytest.approx([1, 0, 1, 1])
    undecided = figures(torch.full((16, 8), 1 / 8))
    assert list(undecided.values()) == pytest.approx([1 / 8, 1, 1, 0])
    named = {f"image_{name}": value for name, value in undecided.items()}
    assert signs(named) == ["image_entropy", "image_information"]
    assert figures(torch.zeros(0, 8)) == {}


def test_the_rank_is_that_of_all_batches_of_a_step_and_needs_enough_images() -> None:
    earlier, first, second = torch.randn(3, 8, 40, generator=torch.Generator().manual_seed(0))
    watch = Watch(batches_per_step=2)
    for batch in (earlier, first, second):
        watch.features(batch)
    expected = feature_rank(torch.cat([first, second]))
    assert watch.read()["feature_rank"] == pytest.approx(expected)
    # Of four images, however different, the rank is at most four.
    few = Watch()
    few.features(first[:4] + 3)
    assert feature_rank(first[:4] + 3) < FIGURES["feature_rank"].low
    assert signs(few.read()) == []


def test_neighbours_of_the_same_patient_have_no_vote() -> None:
    random = np.random.default_rng(0)
    classes, groups = np.repeat([0, 1], 20), np.arange(40)
    centres = torch.eye(2)[torch.from_numpy(classes)] * 5
    features = centres + torch.from_numpy(random.normal(size=(40, 2))).float() * 0.1
    assert neighbour_accuracy(features, classes, groups) == 1
    # All that is near is of the same patient, so that only the other class can answer.
    assert neighbour_accuracy(features, classes, classes) == 0
    # Nine to one: always naming the common class is right half of the time, balanced.
    same = torch.ones(40, 2)
    rare = np.array([0] * 36 + [1] * 4)
    assert neighbour_accuracy(same, rare, groups) <= 0.55


def test_the_same_untrained_images_are_held_out_and_none_is_taken_unasked(archive: Path) -> None:
    manifest = Manifest.read(archive / "clinic.parquet")
    everything = hold_out(manifest, None, MonitorConfig(), seed=0)
    assert len(everything) == 0
    assert not everything.taken_out.any()
    spared = hold_out(manifest, ["train"], MonitorConfig(knn_images=9), seed=0)
    again = hold_out(manifest, ["train"], MonitorConfig(knn_images=9), seed=0)
    assert spared.images.table.equals(again.images.table)
    assert set(spared.images.column("split")) == {"val"}
    assert np.bincount(spared.classes).tolist() == [3, 3, 3]
    assert not spared.taken_out.any()
    assert len(hold_out(manifest, ["train"], MonitorConfig(knn_images=0), seed=0)) == 0


def test_patients_held_out_on_request_are_not_trained_on(archive: Path) -> None:
    manifest = Manifest.read(archive / "clinic.parquet")
    held_out = hold_out(manifest, None, MonitorConfig(hold_out=True), seed=0)
    patients = set(held_out.images.column("patient_id"))
    left = manifest.select(~held_out.taken_out)
    trained = [s != "test" for s in left.column("split")]
    assert patients.isdisjoint(np.array(left.column("patient_id"), object)[trained])
    assert 0 < len(held_out) <= 0.1 * 64
    assert set(held_out.images.column("split")) == {"val"}


def test_a_run_reports_neighbours_and_leaves_them_out(archive: Path, run: Path) -> None:
    with_neighbours = [r["step"] for r in records(run) if "knn_accuracy" in r]
    assert with_neighbours == [2, 4, 7]
    manifest = Manifest.read(archive / "clinic.parquet")
    held_out = hold_out(manifest, None, MonitorConfig(hold_out=True), seed=0)
    seen = set(pd.read_parquet(run / "seen.parquet")["image"])
    assert seen.isdisjoint(held_out.images.column("image"))
    assert len(seen) == 72 - held_out.taken_out.sum()
    summary = (run / "summary.md").read_text()
    assert f"{held_out.taken_out.sum()} images were taken out of training" in summary
    assert "Disease prototypes used" in summary
    assert len(replay(run, 3)) == 8


@pytest.mark.parametrize("method", METHODS.names())
def test_monitors_leave_every_method_as_it_is(
    archive: Path, run: Path, tmp_path: Path, method: str
) -> None:
    options = [
        *QUIET,
        f"method={method}",
        "steps=2",
        "model.drop_path=0.2",
        "mae={decoder_dim: 16, decoder_depth: 1, decoder_heads: 2}",
        "mocov3={projection_dim: 16, hidden_dim: 32}",
        "swav={num_prototypes: 16, projection_dim: 16, hidden_dim: 32, queue_length: 0}",
        f"panderm={{teacher: {run}, teacher_projection: false, teacher_size: 64}}",
    ]
    weights = []
    for name, extra in (("off", ["monitor.knn_images=0"]), ("on", ["monitor.every=1"])):
        out, data = tmp_path / name, [archive / "clinic.parquet"]
        pretrain(data, out, None, "demo", [*options, *extra], ["train"])
        weights.append(load_file(out / "encoder.safetensors"))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    record = records(tmp_path / "on")[-1]
    assert 0 < record["feature_spread"] <= 1
    assert 0 <= record["knn_accuracy"] <= 1
    assert ("image_entropy" in record) == (method in {"dermino", "dinov2", "swav"})
    assert ("patch_prototypes_used" in record) == (method in {"dermino", "dinov2"})


def test_a_collapse_is_said_on_the_console_in_the_record_and_in_the_summary(
    archive: Path, capsys: pytest.CaptureFixture
) -> None:
    run = archive / "collapsed"
    # With a teacher this warm, all prototypes are equally likely for every crop.
    loss = "loss={centering: softmax, teacher_temp: 1000, warmup_teacher_temp: 1000}"
    options = [*QUIET, loss, "steps=2", "optimizer.warmup_epochs=0"]
    pretrain([archive / "clinic.parquet"], run, None, "demo", options)
    printed = capsys.readouterr().err
    assert printed.count(FIGURES["image_entropy"].title + " is 1") == 1
    assert all(record["collapse_signs"] >= 2 for record in records(run))
    summary = (run / "summary.md").read_text()
    assert "**Probably, at the end:" in summary
    assert "optimizer.base_lr" in summary
