"""Linear probes of several encoders from features in memory, as one evaluation trains them.

Run: python benchmarks/linear_probes.py [--encoders 10] [--n 10015] [--protocol linear]
Half of the images are learnt from, a tenth validates, the others are tested. Features are drawn at
random around class means, with the class frequencies of HAM10000.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd
import torch

from dermino.data.manifest import Manifest
from dermino.evaluate.protocol import Trial, configure_protocols
from dermino.evaluate.task import Task

COUNTS = (6705, 1113, 1099, 514, 327, 142, 115)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--encoders", type=int, default=10)
    parser.add_argument("--n", type=int, default=10_015)
    parser.add_argument("--dimension", type=int, default=768)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--protocol", default="linear")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    random = np.random.default_rng(0)
    share = np.array(COUNTS) / sum(COUNTS)
    targets = random.choice(len(COUNTS), options.n, p=share)
    frame = pd.DataFrame(
        {
            "image": [f"{row}.jpg" for row in range(options.n)],
            "dataset": "toy",
            "split": random.choice(["train", "val", "test"], options.n, p=[0.5, 0.1, 0.4]),
            "labels": [[]] * options.n,
        }
    )
    classes = tuple("abcdefg")
    task = Task("toy", Manifest.from_frame(frame, "."), "labels", classes, targets)
    (protocol,) = configure_protocols([options.protocol]).values()

    wall = cpu = 0.0
    for seed in range(options.encoders):
        random = np.random.default_rng(seed)
        features = random.standard_normal((options.n, options.dimension), dtype=np.float32)
        features += 0.1 * random.standard_normal((len(COUNTS), options.dimension))[targets]
        start, before = time.perf_counter(), time.process_time()
        protocol.run(Trial(task, features))
        wall += time.perf_counter() - start
        cpu += time.process_time() - before
    print(
        f"{options.encoders} x {options.protocol}, {options.n} x {options.dimension} features, "
        f"{len(COUNTS)} classes, {options.threads} threads: {wall:.1f} s, CPU time {cpu:.1f} s"
    )


if __name__ == "__main__":
    main()
