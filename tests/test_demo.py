"""``dermino demo`` on own folders: from images to a report, with labels and without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dermino.cli.main import main
from dermino.data.manifest import Manifest

COLOURS = {"bruise": (80, 40, 160), "burn": (200, 60, 40)}
TINY = [
    "model.model_args={depth: 1, embed_dim: 24, num_heads: 2}",
    "head={num_prototypes: 32, hidden_dim: 16, bottleneck_dim: 8}",
    "views={global_size: 32, local_crops: 2, local_size: 16}",
    "optimizer.warmup_epochs=0",
    "batch_size_per_device=8",
    "steps=2",
    "log_every=1",
    "workers=0",
]


def write_pictures(folder: Path, n: int) -> None:
    """Write ``n`` pictures of each of two colours, one sub-folder a colour."""
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(n):
            pixels = np.clip(random.normal(colour, 40, (40, 48, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


def demo(data: Path, out: Path, *settings: str) -> object:
    """Run the command and return its exit code."""
    arguments = ["demo", "--data", str(data), "--out", str(out)]
    with pytest.raises(SystemExit) as done:
        main([*arguments, "--set", *settings] if settings else arguments)
    return done.value.code


def test_a_folder_of_classes_is_scored(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data, out = tmp_path / "clinic", tmp_path / "out"
    write_pictures(data, 10)
    (data / "burn" / "broken.png").write_bytes(b"no picture")
    assert demo(data, out, *TINY) == 0
    said = capfd.readouterr()
    assert "1 images cannot be read" in said.err
    assert "clinic, linear, 10 test images" in said.out

    table = pd.read_csv(out / "results" / "results.csv")
    assert set(table["encoder"]) == {"before", "after"}
    assert set(table["protocol"]) == {"retrieval", "linear"}
    assert set(table["seen_in_pretraining"]) == {"none"}
    assert table["value"].between(0, 1).all()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") == 8 * (1 + 2 * 5)
    assert "Macro AUROC" in page

    # The same folder again finds all done; another one is not mistaken for it.
    before = (out / "run" / "encoder.safetensors").stat().st_mtime_ns
    assert demo(data, out) == 0
    assert (out / "run" / "encoder.safetensors").stat().st_mtime_ns == before
    assert demo(data / "burn", out) == 2
    assert "holds the demo of other images" in capfd.readouterr().err


def test_images_without_labels_are_shown_and_not_scored(tmp_path: Path) -> None:
    data, out = tmp_path / "archive", tmp_path / "out"
    write_pictures(data, 10)
    for image in data.glob("*/*.png"):
        image.rename(data / f"{image.parent.name}{image.name}")
    assert demo(data, out, *TINY) == 0
    table = pd.read_csv(out / "results" / "results.csv")
    assert set(table["encoder"]) == {"before", "after"}
    assert set(table["protocol"]) == {"retrieval"}
    assert table["value"].isna().all()
    assert not (out / "taxonomy").exists()
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("<img") == 8 * (1 + 2 * 5)
    assert "The images carry no labels, so nothing can be scored" in page
    assert "Total loss" in page


def test_a_split_is_kept_where_it_has_both_halves(tmp_path: Path) -> None:
    for part, n in (("train", 6), ("test", 3)):
        write_pictures(tmp_path / "data" / part, n)
    out = tmp_path / "out"
    assert demo(tmp_path / "data", out, *TINY) == 0
    splits = Manifest.read(out / "manifest.parquet").column("split")
    assert (splits.count("train"), splits.count("test")) == (12, 6)
    table = pd.read_csv(out / "results" / "results.csv")
    assert set(table["n"]) == {6}


def test_too_few_images_are_refused_before_training(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_pictures(tmp_path / "few", 5)
    assert demo(tmp_path / "few", tmp_path / "out") == 2
    said = capfd.readouterr().err
    assert "larger than the data: 5 images" in said
    assert "--set batch_size_per_device=2" in said
    assert not (tmp_path / "out" / "run" / "metrics.jsonl").exists()

    write_pictures(tmp_path / "more", 10)
    assert demo(tmp_path / "more", tmp_path / "out", *TINY) == 0
