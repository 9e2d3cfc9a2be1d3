"""What a run survives: signals, kills, batches that are no numbers, bad images, full disks."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dermino.data.manifest import Manifest
from dermino.pretrain.interruption import Interrupted
from dermino.pretrain.pretrain import pretrain
from dermino.pretrain.trainer import Trainer

TINY = [
    "model.model_args={depth: 2, embed_dim: 32, num_heads: 2}",
    "head={num_prototypes: 64, hidden_dim: 32, bottleneck_dim: 16}",
    "views={global_size: 64, local_crops: 2, local_size: 32}",
    "batch_size_per_device=8",
    "log_every=1",
    "workers=0",
]
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def write_archive(folder: Path, images: int) -> Path:
    random = np.random.default_rng(0)
    names = [f"{i}.jpg" for i in range(images)]
    for name in names:
        Image.fromarray(random.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(folder / name)
    path = folder / "archive.parquet"
    Manifest.from_frame(pd.DataFrame({"image": names, "dataset": "archive"}), folder).write(path)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive"), 24)


def train(data: Path, run: Path, *overrides: str, resume: bool = False) -> Path:
    return pretrain([data], run, None, "demo", [*TINY, *overrides], resume=resume)


def records(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_encoder(run: Path, other: Path) -> None:
    ours, theirs = (load_file(path / "encoder.safetensors") for path in (run, other))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def before_step(monkeypatch: pytest.MonkeyPatch, act: Callable[[Trainer], None]) -> None:
    """Call ``act`` before each step."""
    real = Trainer.take_step

    def take_step(self: Trainer, *arguments: object) -> object:
        act(self)
        return real(self, *arguments)

    monkeypatch.setattr(Trainer, "take_step", take_step)


def tell_all(number: int) -> None:
    """Send a signal to this process and its loader's, from another one, as schedulers do."""
    processes = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    subprocess.run(["kill", f"-{int(number)}", *map(str, processes)], check=True)


@pytest.fixture(scope="module")
def whole(data: Path) -> Path:
    """An uninterrupted run of 6 steps."""
    run = data.parent / "whole"
    train(data, run, "steps=6")
    return run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_ends_the_step_writes_a_checkpoint_and_exits_with_its_code(
    data: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
    workers: int,
) -> None:
    overrides = ["steps=6", f"workers={workers}"]
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        before_step(patch, lambda trainer: tell_all(number) if trainer.step == 2 else None)
        with pytest.raises(Interrupted) as stopped:
            train(data, tmp_path, *overrides)
    assert stopped.value.code == code
    assert signal.getsignal(number) is handler
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_00000003.pt"]
    train(data, tmp_path, *overrides, resume=True)
    assert_same_encoder(tmp_path, whole)
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.skipif(sys.platform == "win32", reason="gloo under torchrun is not tested there")
def test_a_signal_to_one_of_two_processes_stops_both_after_the_same_step(
    data: Path, tmp_path: Path
) -> None:
    script = tmp_path / "preempted.py"
    script.write_text(
        "import os, signal, sys\n"
        "from dermino.cli.main import main\n"
        "from dermino.pretrain.trainer import Trainer\n"
        "real = Trainer.take_step\n"
        "def take_step(self, *arguments):\n"
        "    if self.step == 2 and self.fabric.global_rank == 1:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    return real(self, *arguments)\n"
        "Trainer.take_step = take_step\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as stop:\n"
        "    print('ended with', stop.code, flush=True)\n"
    )
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    arguments = ["pretrain", "--data", str(data), "--out", str(tmp_path / "run")]
    settings = ["--recipe", "demo", "--set", *TINY, "steps=6"]
    done = subprocess.run(
        [sys.executable, *torchrun, str(script), *arguments, *settings],
        env=ONE_THREAD,
        capture_output=True,
        text=True,
    )
    assert done.stdout.count("ended with 143") == 2, done.stderr
    assert done.stderr.count("Stopped by SIGTERM after step 3 of 6") == 1
    saved = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert saved == ["step_00000003.pt"]
