"""Wrong calls of the commands: exit code 2, a short message, and nothing lost."""

import shlex
from pathlib import Path

import pandas as pd
import pytest

from dermino.cli.main import main
from dermino.data.manifest import Manifest, SourceInfo

ROWS = {
    "image": [f"{row}.jpg" for row in range(8)],
    "dataset": "clinic",
    "labels": [["nevus"], ["melanoma"]] * 4,
    "split": ["train"] * 4 + ["test"] * 4,
    "age": [50.0] * 8,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in: a manifest whose images are absent, and files of every wrong kind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DERMINO_CACHE", str(tmp_path / "cache"))
    frame = pd.DataFrame(ROWS)
    Manifest.from_frame(frame, tmp_path, [SourceInfo("clinic")]).write("m.parquet")
    Manifest.from_frame(frame.iloc[:0], tmp_path).write("none.parquet")
    Path("cut.parquet").write_bytes(Path("m.parquet").read_bytes()[:200])
    Path("header.csv").write_text("image,label\n")
    Path("open.yaml").write_text("tasks: [\n")
    Path("key.yaml").write_text(
        "tasks:\n- {name: a, title: a, dataset: clinic, protocol: [linear]}\n"
    )
    Path("a file").write_text("x")
    Path("a folder").mkdir()
    return tmp_path


def refusal(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must be refused; return what it says on one line."""
    with pytest.raises(SystemExit) as stopped:
        main(shlex.split(command))
    said = capsys.readouterr().err.strip()
    assert stopped.value.code == 2, said
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 3, said
    return " ".join(said.split())


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("data import auto nowhere --out x.parquet", "no file or folder 'nowhere'. Check the path"),
        ("data import folder . --out x.txt", "'x.txt' ends neither in .parquet nor in .csv"),
        ("data check none.parquet", "'none.parquet' has no rows"),
        ("data split header.csv", "'header.csv' has no rows"),
        ("data show m.parquet ./m.parquet", "'m.parquet' is given twice"),
        ("data shard cut.parquet --out s", "'cut.parquet' is not a readable Parquet file"),
        (
            "data download isic2017 --out d --only *.md --yes",
            "No file of 'isic2017' is called *.md",
        ),
        ("data audit m.parquet --out 'a file'", "Cannot write to the folder 'a file'"),
        ("labels show 'a folder'", "'a folder' is not a taxonomy: it has no taxonomy.json"),
        ("search query 'a folder' 'a file'", "'a folder' is no search index"),
        ("compare 'a folder'", "no results in 'a folder'. Make some with dermino evaluate"),
        ("report 'a folder'", "There is no 'a folder/results.csv'"),
    ],
)
def test_what_cannot_be_used_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str, message: str
) -> None:
    assert message in refusal(command, capsys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--task-file gone.yaml", "There is no file 'gone.yaml'"),
        ("--task-file open.yaml", "open.yaml is not valid YAML"),
        ("--task-file key.yaml", "'tasks.0.protocol'. Did you mean 'tasks.0.protocols'?"),
        ("--set linear.epochs", "Cannot read --set 'linear.epochs'"),
        ("--target age --kind segmentation", "column 'age' holds no paths of masks"),
        ("--protocol retreival", "Did you mean 'retrieval'?"),
    ],
)
def test_evaluate_names_what_it_cannot_ask(
    folder: Path, capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    encoder = "random:vit_tiny_patch16_224"
    assert message in refusal(
        f"evaluate --encoder {encoder} --data m.parquet --out r {options}", capsys
    )


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stesp=1", "Unknown key 'stesp'. Did you mean 'steps'?"),
        ("loggers=wandb", "'loggers' is a list: write [wandb]"),
        ("views.global_scale=0.5", "'views.global_scale' is a list: write [0.5, VALUE]"),
        ("mae={decoder_dim: 100, decoder_heads: 7}", "decoder_dim=100 is not a multiple of"),
        (
            "mae={decoder_dim: 30, decoder_heads: 3}",
            "decoder_dim=30 is not a multiple of 4",
        ),
        ("optimizer=1", "'optimizer' is a section: write optimizer.KEY=VALUE"),
        ("steps=[1", "--set steps is not valid YAML"),
    ],
)
def test_pretrain_names_the_setting(
    folder: Path, capsys: pytest.CaptureFixture[str], setting: str, message: str
) -> None:
    command = f"pretrain --data m.parquet --out run --recipe demo --set '{setting}'"
    assert message in refusal(command, capsys)
    assert not (folder / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    "command",
    [
        "embed --encoder dinov2 --data manifest.parquet --out manifest.parquet",
        "data import csv manifest.parquet --out ./manifest.parquet",
        "data generate --n 1 --workers 1 --out .",
    ],
)
def test_no_command_replaces_somebodys_manifest(
    folder: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    before = (folder / "m.parquet").rename("manifest.parquet").read_bytes()
    assert "lose" in (said := refusal(command, capsys)) or "lost" in said
    assert (folder / "manifest.parquet").read_bytes() == before
