"""How long a large manifest takes to open, beside plain ``pandas.read_parquet``.

    python benchmarks/open_manifest.py [--rows 2000000]

Each is measured in a fresh process, so that memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from dermino.data.manifest import Manifest

_MEASURE = """
import resource, sys, time
{imports}
start = time.perf_counter()
table = {call}
seconds = time.perf_counter() - start
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
print(len(table), seconds, peak)
"""
_WAYS = {
    "Manifest.read": ("from dermino.data.manifest import Manifest", "Manifest.read(sys.argv[1])"),
    "pandas.read_parquet": ("import pandas", "pandas.read_parquet(sys.argv[1])"),
}


def make_manifest(rows: int, path: Path) -> None:
    """Write a manifest with twelve columns, a fifth of it labelled."""
    random = np.random.default_rng(0)
    number = np.arange(rows)
    table = pa.table(
        {
            "image": [f"images/part_{i % 100}/ISIC_{i:07d}.jpg" for i in number],
            "dataset": ["archive"] * rows,
            "labels": [["melanoma"] if i % 5 == 0 else [] for i in number],
            "patient_id": [f"P{i // 10:06d}" for i in number],
            "lesion_id": [f"L{i // 3:06d}" for i in number],
            "modality": ["clinical", "dermoscopic"] * (rows // 2),
            "skin_type": pa.array(random.integers(1, 7, rows), pa.int8()),
            "sex": ["male", "female"] * (rows // 2),
            "age": pa.array(random.integers(0, 95, rows), pa.float32()),
            "site": ["back"] * rows,
            "caption": ["a lesion"] * rows,
        }
    )
    Manifest(table, path.parent).write(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.parquet"
        # In a process of its own: a child's peak memory starts at its parent's.
        maker = multiprocessing.get_context("spawn").Process(
            target=make_manifest, args=(rows, path)
        )
        maker.start()
        maker.join()
        print(f"{rows:,} rows, {path.stat().st_size / 2**20:.0f} MiB on disk")
        seconds = {}
        for name, (imports, call) in _WAYS.items():
            program = _MEASURE.format(imports=imports, call=call)
            printed = subprocess.check_output([sys.executable, "-c", program, str(path)], text=True)
            _, taken, peak = printed.split()
            seconds[name] = float(taken)
            print(f"{name:20} {float(taken):6.2f} s, peak {float(peak):.2f} GiB")
        ours, theirs = seconds["Manifest.read"], seconds["pandas.read_parquet"]
        print(f"ratio {theirs / ours:.1f}")


if __name__ == "__main__":
    main()
