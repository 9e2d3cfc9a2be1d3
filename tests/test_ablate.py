"""``dermino ablate``: the paper's rows, equal budgets, one lost row, and taking it up again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from dermino.ablation.ablate import ablate
from dermino.cli.main import main
from dermino.data.generate import generate
from dermino.data.manifest import Manifest
from dermino.data.split import split
from dermino.errors import UserError
from dermino.knowledge.build import build_taxonomy
from dermino.pretrain.method import METHODS
from dermino.pretrain.trainer import Trainer

TINY = [
    "model.model_args={depth: 2, embed_dim: 32, num_heads: 2}",
    "head={num_prototypes: 64, hidden_dim: 32, bottleneck_dim: 16}",
    "views.local_crops=2",
    "mae={decoder_dim: 32, decoder_depth: 1, decoder_heads: 2}",
    "mocov3={hidden_dim: 32, projection_dim: 16}",
    "swav={num_prototypes: 30, hidden_dim: 32, projection_dim: 16, queue_length: 0}",
    "batch_size_per_device=8",
    "log_every=1",
    "workers=0",
    "steps=3",
    "checkpoint_every=1",
]
MEASURED = ["Retrieval AUROC", "Retrieval F1", "Classification AUROC", "Classification F1"]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, a manifest of all, one of each third, and a taxonomy."""
    folder = tmp_path_factory.mktemp("archive")
    drawn = generate(folder, 60, 64, seed=1, workers=1)
    images = split(drawn, stratify="diagnosis")
    images.write(folder / "all.parquet")
    for third in range(3):
        images.select(np.arange(60) % 3 == third).write(folder / f"part{third}.parquet")
    build_taxonomy([folder / "all.parquet"], text_encoder="char-ngrams").write(folder / "taxonomy")
    return folder


def run(archive: Path, table: str, out: Path, *changes: str, **options: object) -> pd.DataFrame:
    defaults = {
        "data": [archive / "all.parquet"],
        "labels": archive / "taxonomy",
        "recipe": "demo",
        "overrides": [*TINY, *changes],
        "cache": archive / "cache",
        "protocols": ["retrieval", "linear"],
    }
    return ablate(table, out=out, **{**defaults, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def losses(archive: Path) -> tuple[Path, pd.DataFrame]:
    out = archive / "losses"
    return out, run(archive, "losses", out)


def test_losses_are_the_papers_rows_and_then_ours(losses: tuple[Path, pd.DataFrame]) -> None:
    _, frame = losses
    terms = ["Image Level", "Patch Level", "Regularization Level", "Knowledge Guidance"]
    ticks = ["".join("x" if tick else "." for tick in row) for row in frame[terms].to_numpy()]
    assert ticks == [
        *("x...", "xx..", "xxxx", "xxx.", "xxxx"),
        *("x..x", "xx.x", "xxxx", "xxxx", "xxxx"),
    ]
    assert frame["published"].tolist() == [True] * 5 + [False] * 5
    assert set(frame["status"]) == {"finished"}
    assert frame.loc[2].equals(frame.loc[4])


def test_figures_are_those_of_the_evaluation(losses: tuple[Path, pd.DataFrame]) -> None:
    out, frame = losses
    results = pd.read_csv(out / "results" / "results.csv")
    found = results.set_index(["encoder", "protocol", "metric"])["value"]
    for row in frame.to_dict("records"):
        for column, protocol, metric in (
            ("Retrieval F1", "retrieval", "macro_f1"),
            ("Classification AUROC", "linear", "macro_auroc"),
        ):
            assert row[column] == pytest.approx(100 * found[row["loss terms"], protocol, metric])
    assert set(results["seen_in_pretraining"]) == {"none"}


def test_each_row_trains_what_it_says(losses: tuple[Path, pd.DataFrame]) -> None:
    out, _ = losses
    logged = {
        name: set(pd.read_json(out / "runs" / name / "metrics.jsonl", lines=True).columns)
        for name in ("image", "image+patch+koleo", "all-terms")
    }
    assert "knowledge" not in logged["image"] | logged["image+patch+koleo"]
    assert "knowledge" in logged["all-terms"]
    assert not pd.read_parquet(out / "runs" / "image" / "seen.parquet")["labelled"].any()
    weights = yaml.safe_load((out / "recipes" / "image.yaml").read_text())["loss"]
    assert (weights["image"], weights["patch"], weights["koleo"]) == (1, 0, 0)
    prototypes = {
        name: yaml.safe_load((out / "runs" / name / "config.yaml").read_text())["prototypes"]
        for name in ("all-terms", "random-prototypes", "frozen-prototypes")
    }
    chosen = {name: (p["initial"], p["learnable"]) for name, p in prototypes.items()}
    assert chosen == {
        "all-terms": ("text", True),
        "random-prototypes": ("random", True),
        "frozen-prototypes": ("text", False),
    }


def test_a_killed_ablation_goes_on_where_it_was(
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    steps: list[int] = []
    real = Trainer.take_step

    def count(self: Trainer, *batch: object) -> object:
        steps.append(self.step)
        if dies and len(steps) == 5:
            raise KeyboardInterrupt
        return real(self, *batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Trainer, "take_step", count)
    dies, rows = True, ["image", "all-terms"]
    with pytest.raises(KeyboardInterrupt):
        run(archive, "losses", tmp_path, rows=rows)
    assert pd.read_csv(tmp_path / "table.csv")["status"][0] == "finished"
    dies = False
    steps.clear()
    frame = run(archive, "losses", tmp_path, rows=rows)
    assert steps == [1, 2]
    assert frame["status"].tolist()[:3] == ["finished", "not trained", "finished"]
    assert "Rows left to train: 1, about 0:00:" in capsys.readouterr().err

    steps.clear()
    again = run(archive, "losses", tmp_path, rows=rows)
    assert not steps
    pd.testing.assert_frame_equal(again, frame)
    with pytest.raises(UserError, match=r"image'.*\noptimizer.base_lr: 0.01 then, 0.5 now"):
        run(archive, "losses", tmp_path, "optimizer.base_lr=0.5")
    with pytest.raises(UserError, match="other images"):
        run(archive, "losses", tmp_path, data=[archive / "part0.parquet"])


def test_sources_add_up_and_a_lost_row_does_not_stop_the_others(
    archive: Path, tmp_path: Path
) -> None:
    parts = [archive / f"part{third}.parquet" for third in range(3)]
    train = [Manifest.read(part).column("split").count("train") for part in parts]
    batch = f"batch_size_per_device={train[0] + 1}"
    frame = run(archive, "sources", tmp_path, batch, data=parts)
    assert frame["sources"].tolist() == ["part0", "part0+part1", "part0+part1+part2"]
    assert frame["status"].tolist() == ["failed", "finished", "finished"]
    assert "larger than the data" in frame["reason"][0]
    assert "part0 failed: A batch of" in (tmp_path / "table.md").read_text()
    assert "larger than the data" in (tmp_path / "errors" / "part0.txt").read_text()
    for count, name in ((2, "part0+part1"), (3, "part0+part1+part2")):
        seen = pd.read_parquet(tmp_path / "runs" / name / "seen.parquet")
        assert len(seen) == sum(train[:count])
        assert frame[MEASURED].notna().all(axis=1).tolist() == [False, True, True]

    options = ["--labels", archive / "taxonomy", "--recipe", "demo", "--cache", archive / "cache"]
    options += ["--protocol", "retrieval", "linear"]
    command = ["ablate", "--table", "sources", "--out", tmp_path, *options, "--data", *parts]
    with pytest.raises(SystemExit) as done:
        main([*map(str, command), "--set", *TINY, batch])
    assert done.value.code == 1


def test_methods_share_the_budget_and_keep_their_own_optimiser(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "swav" in METHODS
    monkeypatch.delitem(METHODS._items, "swav")
    frame = run(archive, "methods", tmp_path)
    assert frame["pretrain method"].tolist() == ["MAE", "MoCov3", "SWAV", "DINOv2", "DermINO"]
    assert frame["status"].tolist() == ["finished", "finished", "not installed", *["finished"] * 2]
    assert frame.loc[2, MEASURED].isna().all()
    assert "not installed: SWAV" in (tmp_path / "table.md").read_text()

    recipes = {
        path.stem: yaml.safe_load(path.read_text()) for path in (tmp_path / "recipes").iterdir()
    }
    for recipe in recipes.values():
        assert recipe["model"]["architecture"] == "vit_tiny_patch16_224"
        assert recipe["model"]["model_args"] == {"depth": 2, "embed_dim": 32, "num_heads": 2}
        assert (recipe["views"]["global_size"], recipe["views"]["local_size"]) == (64, 32)
        assert (recipe["batch_size_per_device"], recipe["steps"]) == (8, 3)
    assert recipes["MAE"]["optimizer"]["betas"] == [0.9, 0.95]
    assert recipes["MAE"]["views"]["global_scale"] == [0.2, 1.0]
    assert {**recipes["DINOv2"], "method": "dermino"} == recipes["DermINO"]


def test_test_images_are_never_trained_on(archive: Path, tmp_path: Path) -> None:
    images = Manifest.read(archive / "all.parquet")
    images.with_columns(split=[""] * len(images)).write(archive / "unsplit.parquet")
    with pytest.raises(UserError, match="test images of task 'synthetic' are among the images"):
        run(
            archive,
            "losses",
            tmp_path,
            data=[archive / "unsplit.parquet"],
            evaluate_on=[archive / "all.parquet"],
        )
    with pytest.raises(UserError, match="has a train and a test split"):
        run(archive, "losses", tmp_path, data=[archive / "unsplit.parquet"])
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "loss"], "Did you mean 'losses'"),
        (["--table", "losses"], "needs a taxonomy"),
        (["--table", "sources"], "at least two"),
        (["--table", "methods", "--row", "MAE", "DermNIO"], "Did you mean 'DermINO'"),
        (["--table", "losses", "--labels", "TAXONOMY", "--set", "loss.patch=0"], "loss.patch"),
    ],
)
def test_bad_input_is_named_before_any_work(
    archive: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    arguments = [str(archive / "taxonomy") if a == "TAXONOMY" else a for a in arguments]
    command = ["ablate", "--data", str(archive / "all.parquet"), "--recipe", "demo"]
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--out", str(tmp_path / "out"), *arguments])
    assert stopped.value.code == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert message in printed
    assert not (tmp_path / "out" / "runs").exists()
