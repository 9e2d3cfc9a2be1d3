"""Kill a run with SIGKILL again and again, resume it, and compare it with one that ran through.

Run: python benchmarks/kill_and_resume.py [--kills 20] [--steps 60] [--workers 0 2]
Every other kill hits while a checkpoint is being written. The folder is removed afterwards.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import load_file

from dermino.data.manifest import Manifest

TINY = [
    "model.model_args={depth: 2, embed_dim: 32, num_heads: 2}",
    "head={num_prototypes: 64, hidden_dim: 32, bottleneck_dim: 16}",
    "views={global_size: 64, local_crops: 2, local_size: 32}",
    "batch_size_per_device=8",
    "log_every=1",
    "checkpoint_every=2",
]
# Half of a checkpoint is on the disk for this long before the other half follows.
SLOW = """
import io, sys, time
from pathlib import Path
import torch
from dermino.cli.main import main
real = torch.save
def save_slowly(state, path):
    content = io.BytesIO()
    real(state, content)
    half = len(content.getvalue()) // 2
    with open(path, "wb") as file:
        file.write(content.getvalue()[:half])
        file.flush()
        time.sleep(0.3)
        file.write(content.getvalue()[half:])
torch.save = save_slowly
main()
"""


def write_archive(folder: Path, images: int = 24) -> Path:
    random = np.random.default_rng(0)
    names = [f"{i}.jpg" for i in range(images)]
    for name in names:
        Image.fromarray(random.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(folder / name)
    path = folder / "archive.parquet"
    Manifest.from_frame(pd.DataFrame({"image": names, "dataset": "archive"}), folder).write(path)
    return path


def start(data: Path, run: Path, steps: int, workers: int, slow: bool) -> subprocess.Popen[bytes]:
    """Start the run, or take it up."""
    program = ["-c", SLOW] if slow else ["-m", "dermino"]
    settings = [*TINY, f"steps={steps}", f"workers={workers}"]
    arguments = ["--data", str(data), "--out", str(run), "--recipe", "demo", "--set", *settings]
    return subprocess.Popen(
        [sys.executable, *program, "pretrain", *arguments, "--resume"],
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stderr=subprocess.DEVNULL,
    )


def kill_at_random(
    process: subprocess.Popen[bytes], run: Path, random: np.random.Generator, in_checkpoint: bool
) -> str:
    """Kill the process in a moment of its training; return which one."""
    known = _records(run)
    while process.poll() is None:
        if in_checkpoint and any((run / "checkpoints").glob(".step_*.tmp")):
            break
        if not in_checkpoint and _records(run) not in {known, 0}:
            time.sleep(random.uniform(0, 0.2))
            break
        time.sleep(0.002)
    torn = any((run / "checkpoints").glob(".step_*.tmp"))
    ended = process.poll()
    process.send_signal(signal.SIGKILL)
    process.wait()
    if ended is not None:
        return f"had ended by itself with {ended}"
    return "while writing a checkpoint" if torn else f"after {_records(run)} steps"


def _records(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def same(run: Path, other: Path) -> bool:
    """Whether the encoders of two runs are equal bit for bit."""
    ours, theirs = (load_file(path / "encoder.safetensors") for path in (run, other))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in theirs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    options = parser.parse_args()
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        data = write_archive(Path(folder))
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        start(data, whole, options.steps, 0, slow=False).wait()
        for kill in range(options.kills):
            workers = options.workers[kill % len(options.workers)]
            in_checkpoint = kill // len(options.workers) % 2 == 1
            process = start(data, killed, options.steps, workers, slow=in_checkpoint)
            moment = kill_at_random(process, killed, random, in_checkpoint)
            print(f"kill {kill + 1}, {workers} loader processes: {moment}", flush=True)
        start(data, killed, options.steps, 0, slow=False).wait()
        left = sorted(path.name for path in (killed / "checkpoints").iterdir())
        print(f"left in checkpoints: {', '.join(left)}")
        print(f"encoders equal bit for bit: {same(killed, whole)}")


if __name__ == "__main__":
    main()
