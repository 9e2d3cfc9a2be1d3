"""A pretraining run that takes seconds, and an archive for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from dermino.data.manifest import Manifest

TINY = [
    "model.model_args={depth: 2, embed_dim: 32, num_heads: 2}",
    "head={num_prototypes: 64, hidden_dim: 32, bottleneck_dim: 16}",
    "views={global_size: 64, local_crops: 2, local_size: 32}",
    "batch_size_per_device=8",
    "log_every=1",
    "workers=0",
]


def write_archive(folder: Path, images: int = 24) -> Path:
    """Write unlabelled pictures of noise and return their manifest."""
    random = np.random.default_rng(0)
    names = [f"{i}.jpg" for i in range(images)]
    for name in names:
        Image.fromarray(random.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(folder / name)
    path = folder / "archive.parquet"
    Manifest.from_frame(pd.DataFrame({"image": names, "dataset": "archive"}), folder).write(path)
    return path
