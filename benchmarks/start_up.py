"""How long ``dermino pretrain`` takes from the command to its first batch, on a large manifest.

    python benchmarks/start_up.py [--rows 2000000] [--profile]

The manifest has 30 sources, a fifth of its rows labelled with 600 labels, and paths that exist.
The clock starts before the interpreter does and stops when the first batch is asked for; the
peak memory is that of the process by then.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

SOURCES = 30
LABELS_OF_A_SOURCE = 20
IMAGES = 64

_PRETRAIN = """
import os, resource, sys, time
from dermino.cli.main import main
from dermino.pretrain import dataset

def report(sampler):
    seconds = time.time() - float(sys.argv[1])
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu, peak = used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20
    print(f"first batch after {seconds:.1f} s ({cpu:.1f} s of CPU), peak memory {peak:.2f} GiB")
    raise KeyboardInterrupt

dataset.StepSampler.__iter__ = report
main(sys.argv[2:])
"""
_PROFILED = """
import cProfile, pstats, sys
profile = cProfile.Profile()
try:
    profile.runcall(exec, compile(sys.argv.pop(1), "pretrain", "exec"), globals())
finally:
    pstats.Stats(profile, stream=sys.stdout).sort_stats("cumulative").print_stats("dermino", 60)
"""


def make_data(rows: int, folder: Path) -> None:
    """Write the images, the manifest and the taxonomy of its labels."""
    from dermino.data.generate import generate
    from dermino.data.manifest import Manifest
    from dermino.data.source_info import SourceInfo
    from dermino.knowledge.build import build_taxonomy

    generate(folder / "images", n=IMAGES, size=64)
    names = sorted(path.name for path in (folder / "images").rglob("*.jpg"))[:IMAGES]
    held = next((folder / "images").rglob(names[0])).parent
    # Links make as many different paths as there are rows out of a few files.
    (folder / "archive").mkdir()
    for number in range(-(-rows // len(names))):
        (folder / "archive" / f"{number:06}").symlink_to(held)
    sources = [f"source-{number:02}" for number in range(SOURCES)]
    labels = [[f"disease {s} {n}" for n in range(LABELS_OF_A_SOURCE)] for s in range(SOURCES)]
    random = np.random.default_rng(0)
    source = np.sort(random.integers(0, SOURCES, rows))
    label = random.integers(0, LABELS_OF_A_SOURCE, rows)
    table = pa.table(
        {
            "image": [f"{i // len(names):06}/{names[i % len(names)]}" for i in range(rows)],
            "dataset": [sources[s] for s in source.tolist()],
            "labels": [
                [labels[s][n]] if i % 5 == 0 else []
                for i, (s, n) in enumerate(zip(source.tolist(), label.tolist(), strict=True))
            ],
            "patient_id": [f"P{i // 10:06}" for i in range(rows)],
            "age": pa.array(random.integers(0, 95, rows), pa.float32()),
        }
    )
    infos = {
        name: SourceInfo(name, vocabulary=tuple(own))
        for name, own in zip(sources, labels, strict=True)
    }
    Manifest(table, folder / "archive", infos).write(folder / "large.parquet")
    few = pa.table(
        {
            "image": [f"{s}/{n}" for s in range(SOURCES) for n in range(LABELS_OF_A_SOURCE)],
            "dataset": [name for name in sources for _ in range(LABELS_OF_A_SOURCE)],
            "labels": [[name] for own in labels for name in own],
        }
    )
    Manifest(few, folder, infos).write(folder / "few.parquet")
    taxonomy = build_taxonomy([folder / "few.parquet"], text_encoder="char-ngrams")
    taxonomy.write(folder / "taxonomy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="Show where the time goes.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # In a process of its own: a child's peak memory starts at its parent's.
        maker = multiprocessing.get_context("spawn").Process(
            target=make_data, args=(arguments.rows, folder)
        )
        maker.start()
        maker.join()
        for run in range(arguments.runs):
            command = ["pretrain", "--data", str(folder / "large.parquet"), "--recipe", "demo"]
            command += ["--labels", str(folder / "taxonomy"), "--out", str(folder / f"run-{run}")]
            command += ["--set", "workers=0", "--set", "steps=100"]
            program = ["-c", _PRETRAIN]
            if arguments.profile:
                program = ["-c", _PROFILED, _PRETRAIN]
            line = [sys.executable, *program, str(time.time()), *command]
            done = subprocess.run(line, capture_output=True, text=True, check=False)
            wanted = "" if arguments.profile else "first batch"
            found = [printed for printed in done.stdout.splitlines() if wanted in printed]
            print("\n".join(found) or done.stderr, flush=True)


if __name__ == "__main__":
    main()
