"""Images per second that one core draws and encodes: python benchmarks/generate_images.py."""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import islice
from pathlib import Path

from dermino.data.generate import generate, population, render


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=500, help="images to draw")
    parser.add_argument("--size", type=int, default=224, help="their width in pixels")
    arguments = parser.parse_args()
    cases = list(islice(population(0, arguments.size), arguments.n))
    render(cases[0])  # makes the noise tiles, which every later picture shares
    start = time.perf_counter()
    for case in cases:
        render(case)
    drawn = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        generate(Path(folder), arguments.n, size=arguments.size, workers=1)
        written = time.perf_counter() - start
    for what, seconds in (("drawn", drawn), ("drawn, encoded and written", written)):
        print(f"{what}: {arguments.n / seconds:.1f} images/s at {arguments.size} px on one core")


if __name__ == "__main__":
    main()
