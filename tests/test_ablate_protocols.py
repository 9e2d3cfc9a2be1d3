"""``dermino ablate``: the paper's columns, what stands in for one, and protocols that fail."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from dermino.ablation.ablate import ablate
from dermino.ablation.columns import GROUPS
from dermino.ablation.evaluation import Evaluation, Figure, Measurement
from dermino.ablation.layout import FilledTable, RowResult, print_table, write_table
from dermino.ablation.remarks import remarks
from dermino.ablation.tables import ablation_table
from dermino.cli.main import main
from dermino.data.generate import generate
from dermino.data.manifest import Manifest
from dermino.data.split import split
from dermino.evaluate.protocols.segmentation_upernet import SegmentationUperNet
from dermino.knowledge.build import build_taxonomy
from dermino.pretrain.export import seen_images
from dermino.pretrain.trainer import Trainer
from tiny_captions import needs_captions, remove_java, remove_wordnet, write_language_model
from tiny_run import TINY

UPERNET = [f"Segmentation UperNet {metric}" for metric in ("JAC", "DICE")]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn images with labels, masks and captions, without either, and without a split."""
    folder = tmp_path_factory.mktemp("archive")
    images = split(generate(folder, 30, 64, seed=1, workers=1), stratify="diagnosis")
    images.write(folder / "all.parquet")
    nothing: list[Any] = [None] * len(images)
    images.with_columns(mask=nothing, caption=nothing).write(folder / "labels.parquet")
    images.with_columns(labels=[[]] * len(images)).write(folder / "unlabelled.parquet")
    images.with_columns(split=[""] * len(images)).write(folder / "unsplit.parquet")
    build_taxonomy([folder / "all.parquet"], text_encoder="char-ngrams").write(folder / "taxonomy")
    return folder


@needs_captions
def test_the_papers_columns_and_a_protocol_that_fails(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_java(monkeypatch)
    remove_wordnet(monkeypatch)
    captions = Manifest.read(archive / "all.parquet").column("caption")
    language_model = write_language_model(tmp_path / "language_model", captions)
    out = tmp_path / "out"

    def run(protocols: list[str] | None) -> pd.DataFrame:
        own = [
            *("segmentation-upernet.blocks=[0,1]", "segmentation-upernet.width=8"),
            *(f"caption.language_model={language_model}", "caption.max_length=8"),
        ]
        quick = ["segmentation-linear.epochs=2", *(own if protocols else ())]
        return ablate(
            "losses",
            [archive / "all.parquet"],
            out,
            archive / "taxonomy",
            "demo",
            [*TINY, "steps=2", *quick],
            rows=["image", "all-terms"],
            cache=archive / "cache",
            protocols=protocols,
        ).set_index("loss terms")

    first = run(None)
    assert set(first["Segmentation UperNet JAC"]) == {"not asked for"}
    assert first.loc["image", "Segmentation Linear JAC"] > 0

    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    def never(*_: object) -> None:
        raise AssertionError("it was trained already")

    monkeypatch.setattr(Trainer, "take_step", never)
    with monkeypatch.context() as broken:
        broken.setattr(SegmentationUperNet, "run", fail)
        lost = run(["paper"])
    table = (out / "table.md").read_text()
    assert lost.loc["image", ["status", "reason"]].tolist() == [
        "failed",
        "Segmentation UperNet: out of memory",
    ]
    assert table.count("| failed | failed | undef. |") == 3  # all-terms is printed twice.
    assert "Caption METEOR is undefined for image, all-terms: it needs data of NLTK's" in table
    assert "RuntimeError" in (out / "errors" / "image.txt").read_text()

    whole = run(["paper"])
    assert set(whole.loc[["image", "all-terms"], "status"]) == {"finished"}
    assert not list((out / "errors").iterdir())
    found = pd.read_csv(out / "results" / "results.csv").set_index(["protocol", "metric"])["value"]
    for group in GROUPS:
        for metric, ours in group.metrics.items():
            column = whole.loc[["image", "all-terms"], group.column(metric)].iloc[:2]
            if not group.protocol:
                assert set(column) == {"not measured"}
                continue
            expected = found[group.protocol, ours].to_numpy() * (100 if group.percent else 1)
            assert column.to_list() == pytest.approx(expected.tolist(), nan_ok=True)
    kept = whole.columns.drop([*UPERNET, "status", "reason"])
    pd.testing.assert_frame_equal(whole[kept], lost[kept])
    shared = [name for name in first if "AUROC" in str(name) or "Linear" in str(name)]
    pd.testing.assert_frame_equal(whole[shared], first[shared])


def test_what_cannot_be_measured_says_why(archive: Path, tmp_path: Path) -> None:
    nothing = seen_images(Manifest.read(archive / "all.parquet").select(np.arange(0)), None, None)

    def prepare(manifest: str) -> Evaluation:
        return Evaluation.prepare([archive / manifest], nothing, tmp_path)

    evaluation = prepare("labels.parquet")
    table = ablation_table("methods", [])
    results = {row.name: RowResult("not trained") for row in table.rows}
    filled = FilledTable(table, evaluation.measurements, results)
    write_table(tmp_path, filled, remarks(filled))
    cells = (tmp_path / "table.md").read_text().splitlines()[4].strip("| ").split(" | ")
    others = ["no masks", "not asked for", "not asked for", "not measured"]
    assert cells[1:] == ["open"] * 4 + list(np.repeat(others, 2))
    said = "\n".join(remarks(filled))
    assert "Linear: not measured. No image to evaluate on has masks." in said
    assert "Caption: not measured. It takes --protocol caption." in said
    assert "Federated Learning: not measured. dermino has no federated training yet." in said
    only_masks = prepare("unlabelled.parquet").measured
    assert [measurement.tasks for measurement in only_masks] == [("synthetic.mask",)]


def test_tables_fit_the_terminal() -> None:
    table = ablation_table("losses", [])
    measurements = [Measurement(group, ("a task",) if group.protocol else ()) for group in GROUPS]
    nan, low = Figure(float("nan"), "one class"), Figure(0.123456)
    results = {
        row.name: RowResult(
            "finished",
            {
                (group.protocol, ours): nan if ours == "meteor" else low
                for group in GROUPS
                for ours in group.metrics.values()
            },
        )
        for row in table.rows
    }
    filled = FilledTable(table, measurements, results)
    for width in (80, 100, 250):
        file = io.StringIO()
        print_table(filled, [], Console(file=file, width=width))
        printed = file.getvalue()
        assert max(map(len, printed.splitlines())) <= width
        assert printed.count(table.title) == (1 if width == 250 else 2)
        assert printed.count("12.35") == 8 * len(table.rows)
        assert printed.count("undef.") == printed.count("0.1235") == len(table.rows)
        assert printed.count("✓") == sum(len(row.marks) for row in table.rows)
        assert ("Federated" in printed) == (width == 250)
    assert any(line.startswith("Caption METEOR is undefined for") for line in remarks(filled))


@pytest.mark.parametrize(
    ("evaluate_on", "arguments", "message"),
    [
        ("all", ["--protocol", "segmentation"], "Did you mean 'segmentation-linear'"),
        ("all", ["--set", "captoin.epochs=1"], "Did you mean 'caption'"),
        ("all", ["--set", "caption.epochs=1"], "Unknown protocol in --set 'caption'"),
        ("labels", ["--protocol", "segmentation-linear"], "has masks. Name manifests"),
        ("unlabelled", ["--protocol", "retrieval"], "has labels. Name manifests"),
        ("maskless", [], "1 of 60 images are missing"),
        pytest.param(
            "all",
            ["--protocol", "paper", "--set", "caption.language_model=HERE"],
            "holds no language model",
            marks=needs_captions,
        ),
        ("unlabelled", ["--data", "unsplit.parquet"], "test images of task 'synthetic.mask' are"),
    ],
)
def test_bad_input_is_named_before_the_first_step(
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    evaluate_on: str,
    arguments: list[str],
    message: str,
) -> None:
    images = Manifest.read(archive / "all.parquet")
    masks = [*images.column("mask")[:-1], "gone.png"]
    images.with_columns(mask=masks).write(archive / "maskless.parquet")
    monkeypatch.chdir(archive)
    data = [] if "--data" in arguments else ["--data", "all.parquet"]
    command = ["ablate", "--table", "losses", "--labels", "taxonomy", "--recipe", "demo", *data]
    command += ["--evaluate-on", f"{evaluate_on}.parquet", "--out", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as stopped:
        main([*command, *(argument.replace("HERE", str(tmp_path)) for argument in arguments)])
    assert stopped.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out" / "runs").exists()
