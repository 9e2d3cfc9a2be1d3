"""A whole run, small: what it writes, that it resumes, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dermino.cli.main import main
from dermino.data.manifest import Manifest
from dermino.data.source_info import SourceInfo
from dermino.errors import UserError
from dermino.files import sole_writer
from dermino.knowledge.build import build_taxonomy
from dermino.models.load import load_encoder
from dermino.pretrain.pretrain import pretrain
from tiny_run import TINY

CLASSES = ["nevus", "melanoma", "psoriasis"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    random = np.random.default_rng(0)
    names, labels = [], []
    for i in range(24):
        pixels = random.integers(0, 256, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg")
        names.append(f"{i}.jpg")
        labels.append([CLASSES[i % 3]] if i < 12 else [])
    frame = pd.DataFrame({"image": names, "dataset": "clinic", "labels": labels})
    info = SourceInfo("clinic", vocabulary=tuple(CLASSES))
    Manifest.from_frame(frame, folder, [info]).write(folder / "clinic.parquet")
    return folder


@pytest.fixture(scope="module")
def taxonomy(data: Path) -> Path:
    path = data / "taxonomy"
    build_taxonomy([data / "clinic.parquet"], text_encoder="char-ngrams").write(path)
    return path


@pytest.fixture(scope="module")
def finished(data: Path, taxonomy: Path) -> Path:
    run = data / "finished"
    pretrain([data / "clinic.parquet"], run, taxonomy, "demo", [*TINY, "steps=6"])
    return run


def losses(run: Path) -> list[float]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["total"] for line in lines]


def test_a_run_leaves_everything_needed_to_use_and_repeat_it(finished: Path) -> None:
    written = {path.name for path in finished.iterdir()}
    expected = {"config.yaml", "plan.json", "metrics.jsonl", "summary.md", "seen.parquet"}
    assert expected | {"start.safetensors", "encoder.safetensors", "checkpoints"} <= written
    plan = json.loads((finished / "plan.json").read_text())
    assert plan["sources"] == {"clinic": {"images": 24, "labelled": 12}}
    assert (plan["concepts"], plan["steps"], plan["true_epochs"]) == (3, 6, 2.0)
    record = json.loads((finished / "metrics.jsonl").read_text().splitlines()[0])
    terms = ["image_global", "image_local", "patch", "koleo", "knowledge"]
    assert record["total"] == pytest.approx(sum(record[term] for term in terms), rel=1e-5)


def test_timm_loads_the_exported_encoder_directly(finished: Path) -> None:
    model = timm.create_model(
        "vit_tiny_patch16_224",
        num_classes=0,
        img_size=64,
        depth=2,
        embed_dim=32,
        num_heads=2,
        checkpoint_path=str(finished / "encoder.safetensors"),
    ).eval()
    encoder = load_encoder(str(finished))
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        theirs = model(encoder.preprocess.normalise(images))
        torch.testing.assert_close(encoder.embed(images), theirs)
    start = load_file(finished / "start.safetensors")
    end = load_file(finished / "encoder.safetensors")
    assert any(not torch.equal(start[key], end[key]) for key in start)


def test_a_killed_run_ends_where_the_uninterrupted_one_does(
    data: Path, taxonomy: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = data / "killed"
    arguments = ([data / "clinic.parquet"], run, taxonomy, "demo", [*TINY, "steps=6"])
    from dermino.pretrain import trainer

    real = trainer.Trainer.take_step

    def dies_in_step_four(self: trainer.Trainer, *batch: object) -> object:
        if self.step == 4:
            raise KeyboardInterrupt
        return real(self, *batch)

    overrides = [*TINY, "steps=6", "checkpoint_every=3"]
    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "take_step", dies_in_step_four)
        with pytest.raises(KeyboardInterrupt):
            pretrain(*arguments[:4], overrides)
    with pytest.raises(UserError, match="already holds a run"):
        pretrain(*arguments)
    pretrain(*arguments, resume=True)
    assert losses(run) == losses(finished)
    resumed, whole = (load_file(path / "encoder.safetensors") for path in (run, finished))
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("optimizer.base_lr=0.5", "optimizer.base_lr: 0.01 then, 0.5 now"),
        ("batch_size_per_device=12", "batch_size: 8 then, 12 now"),
        ("seed=1", "seed: 0 then, 1 now"),
        (None, "taxonomy: .* then, None now\nother images"),
    ],
)
def test_another_run_is_not_taken_up(
    data: Path, taxonomy: Path, finished: Path, change: str | None, message: str
) -> None:
    changes, labels = ([change], taxonomy) if change else ([], None)
    overrides = [*TINY, "steps=6", *changes]
    with pytest.raises(UserError, match=message):
        pretrain([data / "clinic.parquet"], finished, labels, "demo", overrides, resume=True)


def test_two_processes_do_not_share_a_run(data: Path, taxonomy: Path, finished: Path) -> None:
    overrides = [*TINY, "steps=6"]
    with sole_writer(finished), pytest.raises(UserError, match="Another process is writing"):
        pretrain([data / "clinic.parquet"], finished, taxonomy, "demo", overrides, resume=True)


def test_a_damaged_checkpoint_is_passed_over(data: Path, finished: Path, tmp_path: Path) -> None:
    overrides = [*TINY, "steps=2", "checkpoint_every=1"]
    arguments = ([data / "clinic.parquet"], tmp_path / "run", None, "demo", overrides)
    pretrain(*arguments)
    whole = load_file(tmp_path / "run" / "encoder.safetensors")
    newest = tmp_path / "run" / "checkpoints" / "step_00000002.pt"
    content = bytearray(newest.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    newest.write_bytes(content)
    pretrain(*arguments, resume=True)
    resumed = load_file(tmp_path / "run" / "encoder.safetensors")
    assert len(losses(tmp_path / "run")) == 2
    assert all(torch.equal(resumed[key], whole[key]) for key in whole)


def test_weights_that_are_no_numbers_stop_the_run(data: Path, finished: Path) -> None:
    state = load_file(finished / "encoder.safetensors")
    save_file({**state, "norm.bias": torch.full((32,), torch.nan)}, data / "nan.safetensors")
    overrides = [*TINY, "steps=2", f"model.init={data / 'nan.safetensors'}"]
    with pytest.raises(UserError, match="has not been a number since step 1"):
        pretrain([data / "clinic.parquet"], data / "diverged", None, "demo", overrides)
    assert not (data / "diverged" / "encoder.safetensors").exists()


def test_images_seen_by_the_starting_weights_stay_seen(data: Path, finished: Path) -> None:
    overrides = [*TINY, "steps=1", f"model.init={finished / 'encoder.safetensors'}"]
    pretrain([data / "clinic.parquet"], data / "second", None, "demo", overrides)
    assert sum(pd.read_parquet(data / "second" / "seen.parquet")["labelled"]) == 12


def test_archives_without_any_label_and_with_broken_images_train(data: Path) -> None:
    manifest = Manifest.read(data / "clinic.parquet")
    names = [*manifest.column("image")[:20], "broken.jpg"]
    (data / "broken.jpg").write_bytes(b"\xff\xd8 not a photograph")
    frame = pd.DataFrame({"image": names, "dataset": "bare"})
    Manifest.from_frame(frame, data).write(data / "bare.parquet")
    run = data / "bare"
    pretrain([data / "bare.parquet"], run, None, "demo", [*TINY, "steps=6"])
    assert "knowledge" not in json.loads((run / "metrics.jsonl").read_text().splitlines()[0])
    assert "broken.jpg" in (run / "unreadable.csv").read_text()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_gives_up_when_hardly_an_image_can_be_read(data: Path, workers: int) -> None:
    names = [f"broken_{i}.jpg" for i in range(200)]
    for name in names:
        (data / name).write_bytes(b"\xff\xd8 not a photograph")
    frame = pd.DataFrame({"image": ["0.jpg", *names], "dataset": "broken"})
    Manifest.from_frame(frame, data).write(data / "broken.parquet")
    run, overrides = data / f"broken_{workers}", [*TINY, "steps=1", f"workers={workers}"]
    with pytest.raises(UserError, match=r"^20 images in a row cannot be read\.") as given_up:
        pretrain([data / "broken.parquet"], run, None, "demo", overrides)
    assert "Traceback" not in given_up.value.message
    Manifest.from_frame(frame[1:], data).write(data / "broken.parquet")
    with pytest.raises(UserError, match="None of 20 images looked at can be read"):
        pretrain([data / "broken.parquet"], data / "unread", None, "demo", overrides)


def test_dinov2_is_the_same_run_without_labels(data: Path, taxonomy: Path) -> None:
    manifest = [data / "clinic.parquet"]
    overrides = [*TINY, "steps=2"]
    pretrain(manifest, data / "a", taxonomy, "demo", [*overrides, "method=dinov2"])
    pretrain(manifest, data / "b", None, "demo", overrides)
    assert losses(data / "a") == losses(data / "b")


def test_starting_weights_are_found_in_runs_and_files_and_resized(
    data: Path, finished: Path
) -> None:
    run = data / "continued"
    larger = [*TINY, "views={global_size: 96, local_crops: 0}", "steps=1"]
    init = f"model.init={finished}"
    pretrain([data / "clinic.parquet"], run, None, "demo", [*larger, init])
    start, before = (
        load_file(path) for path in (run / "start.safetensors", finished / "encoder.safetensors")
    )
    assert torch.equal(start["blocks.1.mlp.fc1.weight"], before["blocks.1.mlp.fc1.weight"])
    assert start["pos_embed"].shape == (1, 37, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "batch_size_per_device=100"], "larger than the data"),
        (["--set", "head.num_prototype=3"], "head.num_prototypes"),
        (["--set", "method=dermin"], "dermino"),
        (["--set", "model.architecture=vit_tny_patch16_224"], "vit_tiny_patch16_224"),
        (["--set", "views.local_size=33"], "multiple of the patch size"),
        (["--set", "model.init=nowhere.pth"], "nowhere.pth"),
        (["--set", "model.model_args={dpth: 2}"], "timm cannot build"),
        (["--set", "workers=-1"], "'workers'"),
        (["--set", "optimizer.base_lr=.inf"], "finite number"),
        (["--labels", "nowhere"], "nowhere"),
        (["--recipe", "dermino-vitb"], "dermino-vitb14"),
        (["--split", "trian"], "train"),
    ],
)
def test_bad_input_is_named_before_any_work(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture, arguments: list[str], message: str
) -> None:
    recipe = [] if "--recipe" in arguments else ["--recipe", "demo"]
    command = ["pretrain", "--data", str(data / "clinic.parquet"), "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stopped:
        main([*command, *recipe, *arguments])
    assert stopped.value.code == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert message in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "run" / "config.yaml").exists()


def test_the_losses_of_twenty_steps_stay_what_they_are(data: Path, taxonomy: Path) -> None:
    run = data / "pinned"
    overrides = [*TINY, "steps=20", "model.drop_path=0.2", "optimizer.layer_decay=0.9"]
    pretrain([data / "clinic.parquet"], run, taxonomy, "demo", overrides)
    # A refactor must not move these; a change of the method must say why it does.
    expected = [
        11.1824,
        11.3637,
        11.0605,
        10.2897,
        9.7354,
        9.5007,
        9.1107,
        8.8485,
        8.8288,
        8.6994,
        8.6608,
        8.5483,
        8.4504,
        8.4388,
        8.2734,
        8.2807,
        8.4041,
        8.2205,
        8.3142,
        8.3361,
    ]
    np.testing.assert_allclose(losses(run), expected, rtol=1e-4)
