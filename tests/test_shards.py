"""Shards hold the same images as the files they were made of, for every reader."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import webdataset
from PIL import Image
from safetensors.torch import load_file

from dermino.cli.main import main
from dermino.data.images import UnreadableImage, read_image
from dermino.data.manifest import Manifest
from dermino.data.reference import read
from dermino.data.shard_cache import ShardCache
from dermino.data.shards import shard
from dermino.data.source_info import SourceInfo
from dermino.errors import UserError
from dermino.pretrain.pretrain import pretrain

TINY = [
    "model.model_args={depth: 1, embed_dim: 32, num_heads: 2}",
    "head={num_prototypes: 64, hidden_dim: 32, bottleneck_dim: 16}",
    "views={global_size: 64, local_crops: 2, local_size: 32}",
    "batch_size_per_device=8",
    "log_every=1",
    "steps=5",
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    folder = tmp_path_factory.mktemp("files")
    random = np.random.default_rng(0)
    for number in range(24):
        pixels = random.integers(0, 256, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / (f"{number}.jpg" if number % 4 else f"{number}.png"))
        Image.fromarray(pixels[..., 0] & 128).save(folder / f"{number}_mask.png")
    frame = pd.DataFrame(
        {
            "image": [f"{n}.jpg" if n % 4 else f"{n}.png" for n in range(24)],
            "mask": [f"{n}_mask.png" if n % 2 else None for n in range(24)],
            "dataset": ["clinic"] * 16 + ["practice"] * 8,
            "labels": [["nevus", "naevus ü"][: n % 3] for n in range(24)],
            "date": [pd.Timestamp("2020-02-03").date()] * 24,
        }
    )
    manifest = Manifest.from_frame(frame, folder, [SourceInfo("clinic", licence="CC0-1.0")])
    manifest.write(folder / "files.parquet")
    return manifest


def same_images(one: Manifest, other: Manifest) -> bool:
    pairs = zip(one.paths(), other.paths(), strict=True)
    return all(read(a) == read(b) for a, b in pairs)


def test_shards_hold_the_bytes_and_rows_of_the_files(files: Manifest, tmp_path: Path) -> None:
    shard(files, tmp_path / "shards", shard_size="40KB")
    sharded = Manifest.read(tmp_path / "shards" / "manifest.parquet")
    assert sharded.column("image")[:2] == [
        "shard-000000.tar!/000000000.png",
        "shard-000000.tar!/000000001.jpg",
    ]
    assert sharded.column("original_image") == files.column("image")
    assert same_images(files, sharded)
    for given, mask in zip(files.column("mask"), sharded.column("mask"), strict=True):
        assert (given is None) == (mask is None)
        assert mask is None or read(sharded.locate(mask)) == read(files.locate(given))
    others = ["dataset", "split", "labels", "date"]
    assert sharded.table.select(others).equals(files.table.select(others))
    assert sharded.sources["clinic"].licence == "CC0-1.0"


def test_the_webdataset_library_reads_them(files: Manifest, tmp_path: Path) -> None:
    shard(files, tmp_path, shard_size="40KB")
    shards = sorted(map(str, tmp_path.glob("*.tar")))
    assert len(shards) > 2
    samples = list(webdataset.WebDataset(shards, shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == [f"{row:09}" for row in range(24)]
    for row, sample in enumerate(samples):
        pixels = sample.get("jpg", sample.get("png"))
        np.testing.assert_array_equal(pixels.shape, (70, 90, 3))
        assert sample["json"]["labels"] == files.labels[row]
        assert sample["json"]["date"] == "2020-02-03"
        assert ("mask.png" in sample) == (row % 2 == 1)


def losses(run: Path) -> list[float]:
    return [json.loads(line)["total"] for line in (run / "metrics.jsonl").open()]


def test_training_from_shards_equals_training_from_files(files: Manifest, tmp_path: Path) -> None:
    shard(files, tmp_path / "local", shard_size="40KB")
    shard(files, "memory://shards/a", "40KB", manifest_file=tmp_path / "memory.parquet")
    url = f"file://{tmp_path}/remote"
    shard(files, url, "40KB", manifest_file=tmp_path / "url.parquet")
    assert (
        Manifest.read(tmp_path / "url.parquet").path(0) == f"{url}/shard-000000.tar!/000000000.png"
    )
    cached = f"data={{cache: '{tmp_path / 'cache'}', cache_gib: 0.00008}}"
    runs = {
        "files": (files.root / "files.parquet", ["workers=2"]),
        "local": (tmp_path / "local" / "manifest.parquet", ["workers=2"]),
        "memory": (tmp_path / "memory.parquet", ["workers=0"]),
        "cached": (tmp_path / "url.parquet", ["workers=2", cached]),
    }
    for name, (manifest, options) in runs.items():
        pretrain([manifest], tmp_path / name, None, "demo", [*TINY, *options])
    seen = [pq.read_table(tmp_path / name / "seen.parquet") for name in runs]
    assert all(table.equals(seen[0]) for table in seen)
    expected = load_file(tmp_path / "files" / "encoder.safetensors")
    for name in runs:
        assert losses(tmp_path / name) == losses(tmp_path / "files")
        trained = load_file(tmp_path / name / "encoder.safetensors")
        assert all(torch.equal(trained[key], expected[key]) for key in expected)


@pytest.fixture
def rangeless(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL of a web server for it that ignores byte ranges."""
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("localhost", 0), handler) as server:
        Thread(target=server.serve_forever).start()
        yield tmp_path, f"http://localhost:{server.server_port}"
        server.shutdown()


def test_a_server_without_ranges_is_named_and_the_cache_reads_from_it(
    files: Manifest, rangeless: tuple[Path, str]
) -> None:
    folder, url = rangeless
    sharded = shard(files, folder, shard_size="40KB")
    images = pa.array([f"{url}/{name}" for name in sharded.column("image")])
    remote = Manifest(sharded.with_columns(image=images).table, folder, sharded.sources)
    remote.write(folder / "remote.parquet")
    with pytest.raises(UnreadableImage, match=r"ignores byte ranges.*data\.cache"):
        read_image(remote.path(0))
    options = [*TINY, f"data.cache={folder / 'cache'}", "workers=0", "loggers=[jsonl]"]
    pretrain([folder / "remote.parquet"], folder / "run", None, "demo", options)
    assert not (folder / "run" / "unreadable.csv").exists()


def test_the_cache_keeps_what_was_used_last(files: Manifest, tmp_path: Path) -> None:
    manifest_file = tmp_path / "memory.parquet"
    manifest = shard(files, "memory://shards/b", "40KB", manifest_file=manifest_file)
    cache = ShardCache(tmp_path / "cache", limit_gib=100_000 / 2**30)
    for path, given in zip(manifest.paths(), files.paths(), strict=True):
        assert cache.read(path) == read(given)
    kept = {path.name.partition("-")[2] for path in cache.folder.glob("*.tar")}
    everything = fsspec.filesystem("memory").glob("/shards/b/*.tar")
    assert 1 <= len(kept) < len(everything)
    assert everything[-1].rpartition("/")[2] in kept
    assert sum(path.stat().st_size for path in cache.folder.glob("*.tar")) <= 100_000


def test_a_killed_call_goes_on_and_ends_in_the_same_shards(files: Manifest, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    shard(files, whole, shard_size="10KB")
    code = (
        "import sys, time; from dermino.data import shards; from dermino.data.manifest import "
        "Manifest; real = shards._read_sample\n"
        "def slow(*a):\n time.sleep(0.05); return real(*a)\n"
        "shards._read_sample, shards._READERS = slow, 1\n"
        "shards.shard(Manifest.read(sys.argv[1]), sys.argv[2], '10KB')"
    )
    command = [sys.executable, "-c", code, str(files.root / "files.parquet"), str(killed)]
    process = subprocess.Popen(command)
    while len(list(killed.glob("*.idx"))) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    (killed / ".shard-000002.tar.0a1b2c3d.tmp").write_bytes(b"half")
    before = {path.name: path.stat().st_mtime_ns for path in killed.glob("*.idx")}
    assert not (killed / "manifest.parquet").exists()
    shard(files, killed, shard_size="10KB")
    assert all((killed / name).stat().st_mtime_ns == date for name, date in before.items())
    names = {path.name for path in whole.iterdir()}
    assert names == {path.name for path in killed.iterdir()}
    for name in names - {"manifest.parquet", ".lock"}:
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    assert (
        Manifest.read(killed / "manifest.parquet").table
        == Manifest.read(whole / "manifest.parquet").table
    )


def test_other_shards_are_not_mixed_and_bad_images_are_left_out(
    files: Manifest, tmp_path: Path
) -> None:
    frame = pd.DataFrame({"image": ["1.jpg", "gone.jpg", "files.parquet"], "dataset": "clinic"})
    bad = Manifest.from_frame(frame, files.root)
    assert shard(bad, tmp_path).column("image") == ["shard-000000.tar!/000000000.jpg"]
    findings = pd.read_csv(tmp_path / "manifest.findings.csv")
    assert list(findings["row"]) == [2, 3]
    assert findings["detail"][0] == "there is no such file"
    with pytest.raises(UserError, match=r"something else \(other max_side\)"):
        shard(bad, tmp_path, max_side=64)
    with pytest.raises(UserError, match="other manifest"):
        shard(files, tmp_path)
    with pytest.raises(UserError, match="None of the 2 images can be read"):
        shard(bad.select([1, 2]), tmp_path / "none")
    with pytest.raises(UserError, match="--manifest-file"):
        shard(files, "memory://shards/c")


def test_large_pictures_and_their_masks_can_be_reduced(tmp_path: Path, files: Manifest) -> None:
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[:, 150:] = 255
    Image.fromarray(pixels).save(tmp_path / "a.jpg")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "a_mask.png")
    Image.fromarray(pixels[:90, :80]).save(tmp_path / "b.jpg")
    table = tmp_path / "m.csv"
    table.write_text("image,mask\na.jpg,a_mask.png\nb.jpg,\n")
    out = tmp_path / "shards"
    arguments = ["data", "shard", str(table), "--out", str(out), "--max-side", "96"]
    with pytest.raises(SystemExit, match="0"):
        main(arguments)
    sharded = Manifest.read(out / "manifest.parquet")
    assert read_image(sharded.path(0)).shape == (3, 64, 96)
    assert read(sharded.path(1)) == (tmp_path / "b.jpg").read_bytes()
    mask = read_image(sharded.locate(sharded.column("mask")[0]))
    assert mask.shape == (3, 64, 96)
    assert set(mask.unique().tolist()) == {0, 255}
