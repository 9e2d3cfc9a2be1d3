"""Two processes on gloo train what one process with the same global batch trains."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from safetensors.torch import load_file

from dermino.data.manifest import Manifest, SourceInfo
from dermino.knowledge.build import build_taxonomy

TINY = [
    "model.model_args={depth: 2, embed_dim: 32, num_heads: 2}",
    "head={num_prototypes: 64, hidden_dim: 32, bottleneck_dim: 16}",
    "views={global_size: 64, local_crops: 2, local_size: 32}",
    # By default KoLeo compares the images of one process, as DINOv2 does.
    "loss.koleo_gather=true",
    "steps=3",
    "log_every=1",
    "workers=0",
]


def train(data: Path, out: Path, processes: int) -> list[dict[str, float]]:
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "dermino", "pretrain"]
    settings = [*TINY, f"batch_size_per_device={16 // processes}"]
    paths = ["--data", str(data), "--labels", str(data.parent / "taxonomy"), "--out", str(out)]
    subprocess.run(
        [*command, *paths, "--recipe", "demo", "--set", *settings],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
    )
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.skipif(sys.platform == "win32", reason="gloo under torchrun is not tested there")
def test_two_processes_equal_one(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    names = [f"{i}.png" for i in range(20)]
    # Few labels, so that the processes hold different numbers of labelled images.
    labels = [["nevus"] if i % 7 == 0 else ["melanoma"] if i % 7 == 1 else [] for i in range(20)]
    for name in names:
        Image.fromarray(random.integers(0, 256, (70, 80, 3), dtype=np.uint8)).save(tmp_path / name)
    data = tmp_path / "archive.parquet"
    frame = pd.DataFrame({"image": names, "dataset": "archive", "labels": labels})
    info = SourceInfo("archive", vocabulary=("melanoma", "nevus"))
    Manifest.from_frame(frame, tmp_path, [info]).write(data)
    build_taxonomy([data], text_encoder="char-ngrams").write(tmp_path / "taxonomy")
    one, two = (train(data, tmp_path / str(n), n) for n in (1, 2))
    for term in ("image_global", "image_local", "patch", "koleo", "knowledge"):
        np.testing.assert_allclose(
            [r[term] for r in two], [r[term] for r in one], rtol=1e-5, err_msg=term
        )
    weights = [load_file(tmp_path / str(n) / "encoder.safetensors") for n in (1, 2)]
    for key, value in weights[0].items():
        np.testing.assert_allclose(weights[1][key], value, atol=1e-5, err_msg=key)
