"""A pretraining run that takes seconds, an archive for it, and a transformer as small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image

from dermino.data.manifest import Manifest
from dermino.models.masked_vit import MaskedVisionTransformer

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


def small_vit(**options: int) -> MaskedVisionTransformer:
    """Return a backbone of three blocks for images of 32 px, the same for the same options."""
    torch.manual_seed(0)
    shape = {"img_size": 32, "depth": 3, "embed_dim": 32, "num_heads": 2, **options}
    vit = timm.create_model("vit_tiny_patch16_224", num_classes=0, **shape)
    return MaskedVisionTransformer(vit)
