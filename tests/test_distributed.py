"""Two processes train what one does: under ``torchrun`` and ``srun``, copied and sharded."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from shutil import copytree

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from dermino.data.manifest import Manifest
from dermino.data.source_info import SourceInfo
from dermino.errors import UserError
from dermino.files import sole_writer, writable_folder
from dermino.knowledge.build import build_taxonomy
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.pretrain import pretrain
from dermino.pretrain.resume import keep_batch_size

SETTINGS = [
    "model.model_args={depth: 2, embed_dim: 32, num_heads: 2}",
    "model.drop_path=0.3",
    "head={num_prototypes: 64, hidden_dim: 32, bottleneck_dim: 16}",
    "views={global_size: 64, local_crops: 2, local_size: 32}",
    # By default KoLeo compares the images of one process, as DINOv2 does.
    "loss.koleo_gather=true",
    "accumulate_grad_batches=2",
    "steps=4",
    "checkpoint_every=2",
    "log_every=1",
    "workers=0",
]
TERMS = ("image_global", "image_local", "patch", "koleo", "knowledge")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="gloo under torchrun is not tested there"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    random = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(20)]
    # Few labels, so that the processes hold different numbers of labelled images.
    labels = [["nevus"] if i % 7 == 0 else ["melanoma"] if i % 7 == 1 else [] for i in range(20)]
    for name in names:
        Image.fromarray(random.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(folder / name)
    data = folder / "archive.parquet"
    frame = pd.DataFrame({"image": names, "dataset": "archive", "labels": labels})
    info = SourceInfo("archive", vocabulary=("melanoma", "nevus"))
    Manifest.from_frame(frame, folder, [info]).write(data)
    build_taxonomy([data], text_encoder="char-ngrams").write(folder / "taxonomy")
    return data


@pytest.fixture(scope="module")
def alone(data: Path) -> Path:
    """A run of one process with 8 images twice a step."""
    run = data.parent / "alone"
    train_alone(data, run, "batch_size_per_device=8")
    return run


def train_alone(data: Path, run: Path, *settings: str, resume: bool = False) -> None:
    labels = data.parent / "taxonomy"
    pretrain([data], run, labels, "demo", [*SETTINGS, *settings], resume=resume)


def arguments(data: Path, run: Path, *settings: str) -> list[str]:
    paths = ["--data", str(data), "--labels", str(data.parent / "taxonomy"), "--out", str(run)]
    return ["pretrain", *paths, "--resume", "--recipe", "demo", "--set", *SETTINGS, *settings]


def train_under_torchrun(data: Path, run: Path, *settings: str) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command = [sys.executable, *torchrun, "-m", "dermino", *arguments(data, run, *settings)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def train_under_srun(data: Path, run: Path, *settings: str) -> list[tuple[int, str]]:
    """Start two processes with the variables that SLURM gives to the tasks of a job.

    Returns their exit codes and what they said.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"SLURM_JOB_ID": "1", "SLURM_STEP_ID": "0", "SLURM_JOB_NAME": "pretrain"}
    size = {"SLURM_NNODES": "1", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2"}
    first = {"SLURM_NODEID": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    command = [sys.executable, "-m", "dermino", *arguments(data, run, *settings)]
    tasks = [
        subprocess.Popen(
            command,
            env={**ENVIRONMENT, **job, **size, **first, "SLURM_PROCID": n, "SLURM_LOCALID": n},
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in ("0", "1")
    ]
    try:
        said = [task.communicate(timeout=120)[1] for task in tasks]
    finally:
        for task in tasks:
            task.kill()
    return [(task.returncode, text) for task, text in zip(tasks, said, strict=True)]


def begun(run: Path, other: Path) -> Path:
    """Copy a run as it was after its second step."""
    copytree(run, other)
    (other / "checkpoints" / "step_00000004.pt").unlink()
    return other


def assert_same(run: Path, other: Path) -> None:
    """Compare all losses, and all that the last checkpoints hold."""
    ours, theirs = (
        [json.loads(line) for line in (path / "metrics.jsonl").open()] for path in (run, other)
    )
    assert len(ours) == len(theirs) == 4
    for term in TERMS:
        np.testing.assert_allclose(
            [r[term] for r in ours], [r[term] for r in theirs], rtol=1e-5, err_msg=term
        )
    states = [torch.load(path / "checkpoints" / "step_00000004.pt") for path in (run, other)]
    for key, value in states[1]["method"].items():
        pair = (states[0]["method"][key], value)
        if key.endswith("qkv.bias"):
            # Softmax does not see the keys' bias: its gradient is rounding, which Adam brings to
            # full size.
            pair = tuple(torch.cat([v.chunk(3)[0], v.chunk(3)[2]]) for v in pair)
        torch.testing.assert_close(*pair, atol=1e-5, rtol=0, msg=key)
    moments, expected = (state["optimizer"]["state"] for state in states)
    assert moments.keys() == expected.keys()
    for number, values in expected.items():
        for key, value in values.items():
            torch.testing.assert_close(moments[number][key], value, atol=1e-5, rtol=0)


def test_two_processes_equal_one_and_one_goes_on_where_two_were(
    data: Path, alone: Path, tmp_path: Path
) -> None:
    train_under_torchrun(data, tmp_path / "two", "batch_size_per_device=4")
    assert_same(tmp_path / "two", alone)
    run = begun(tmp_path / "two", tmp_path / "one")
    train_alone(data, run, "batch_size_per_device=4", resume=True)
    assert_same(run, alone)


def test_two_processes_that_share_the_parameters_go_on_where_one_was(
    data: Path, alone: Path, tmp_path: Path
) -> None:
    run = begun(alone, tmp_path / "sharded")
    ended = train_under_srun(data, run, "batch_size_per_device=8", "strategy=fsdp")
    assert [code for code, _ in ended] == [0, 0], ended
    assert_same(run, alone)
    train_alone(data, run, "batch_size_per_device=8", resume=True)


@pytest.mark.parametrize("file", ["start.safetensors", "encoder.safetensors"])
def test_processes_stop_together_where_the_first_cannot_write(
    file: str, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    (run / file / "in the way").mkdir(parents=True)
    (code, said), (other_code, other_said) = train_under_srun(data, run, "batch_size_per_device=4")
    assert code != 0
    assert file in said
    assert other_code == 2
    assert "Another process of this run had to stop" in other_said


def test_processes_stop_together_where_another_run_writes(data: Path, tmp_path: Path) -> None:
    with sole_writer(writable_folder(tmp_path / "run")):
        ended = train_under_srun(data, tmp_path / "run", "batch_size_per_device=4")
    assert [code for code, _ in ended] == [2, 2]
    assert "Another process is writing" in ended[0][1]


def test_a_batch_that_cannot_be_divided_is_named(alone: Path) -> None:
    config = PretrainConfig(batch_size_per_device=8, accumulate_grad_batches=2)
    assert keep_batch_size(alone, config, 4).batch_size_per_device == 2
    with pytest.raises(UserError, match="16 images, which cannot be divided over 3 devices x 2"):
        keep_batch_size(alone, config, 3)
