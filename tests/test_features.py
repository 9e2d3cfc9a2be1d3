"""Features: computed once, decoded once, kept through interruptions and parallel writers."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dermino.evaluate.features as features_module
from dermino.data.images import read_image
from dermino.errors import UserError
from dermino.evaluate.feature_cache import FeatureCache
from dermino.evaluate.features import extract, extract_many
from dermino.models.encoder import Encoder
from dermino.models.load import load_encoder

SIZE = 32


class CountingEncoder:
    """An encoder that counts the images it is given."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self.seen = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._encoder, name)

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        self.seen += len(images)
        return self._encoder.embed(images)


@pytest.fixture(scope="module")
def encoders() -> tuple[Encoder, Encoder]:
    names = ("first=random:vit_tiny_patch16_224", "second=random:resnet10t")
    first, second = (load_encoder(name, image_size=SIZE) for name in names)
    return first, second


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    random = np.random.default_rng(0)
    result = []
    for number in range(12):
        path = tmp_path / f"image{number}.png"
        pixels = random.integers(0, 256, (40 + number, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        result.append(path)
    return result


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of all images decoded in this process."""
    names: list[str] = []

    def read(path: str, min_side: int | None = None) -> torch.Tensor:
        names.append(Path(path).name)
        return read_image(path, min_side)

    monkeypatch.setattr(features_module, "read_image", read)
    return names


def test_features_equal_the_encoder_on_each_image(
    encoders: tuple[Encoder, Encoder], paths: list[Path], cache: FeatureCache
) -> None:
    for encoder in encoders:
        found = extract(encoder, paths, cache, batch_size=5, workers=2)
        images = [encoder.preprocess.resize(read_image(path)) for path in paths]
        with torch.inference_mode():
            expected = encoder.embed(torch.stack(images)).numpy()
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_image_is_decoded_once_for_all_encoders_and_never_again(
    encoders: tuple[Encoder, Encoder],
    paths: list[Path],
    cache: FeatureCache,
    decoded: list[str],
) -> None:
    together = extract_many(encoders, paths, cache, workers=0)
    assert sorted(decoded) == sorted(path.name for path in paths)

    decoded.clear()
    again = extract_many(encoders, paths[::-1], cache, workers=0)
    assert decoded == []
    for first, second in zip(together, again, strict=True):
        assert (first == second[::-1]).all()


def test_only_what_an_encoder_lacks_is_computed(
    encoders: tuple[Encoder, Encoder], paths: list[Path], cache: FeatureCache, decoded: list[str]
) -> None:
    extract(encoders[0], paths[:8], cache, workers=0)
    first, second = (CountingEncoder(encoder) for encoder in encoders)
    extract_many([first, second], paths, cache, workers=0)  # type: ignore[list-item]
    assert (first.seen, second.seen) == (4, 12)


def test_content_decides_not_the_name(
    encoders: tuple[Encoder, Encoder], paths: list[Path], cache: FeatureCache, decoded: list[str]
) -> None:
    features = extract(encoders[0], paths, cache, workers=0)
    decoded.clear()
    copy = paths[0].with_name("copy.png")
    copy.write_bytes(paths[0].read_bytes())
    assert (extract(encoders[0], [copy, copy], cache, workers=0) == features[0]).all()
    assert decoded == []

    paths[0].write_bytes(paths[1].read_bytes())
    os.utime(paths[0], ns=(1, 1))
    assert (extract(encoders[0], paths[:1], cache, workers=0) == features[1]).all()


def test_another_input_size_is_another_feature(paths: list[Path], cache: FeatureCache) -> None:
    name = "random:vit_tiny_patch16_224"
    small, large = (load_encoder(name, image_size=size) for size in (32, 48))
    first, second = extract_many([small, large], paths, cache, workers=0)
    assert np.abs(first - second).max() > 1e-3


def test_work_done_before_an_interruption_is_kept(
    encoders: tuple[Encoder, Encoder],
    paths: list[Path],
    cache: FeatureCache,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stop_at_8(path: str, min_side: int | None = None) -> torch.Tensor:
        if Path(path).name == "image8.png":
            raise KeyboardInterrupt
        return read_image(path, min_side)

    monkeypatch.setattr(features_module, "read_image", stop_at_8)
    with pytest.raises(KeyboardInterrupt):
        extract(encoders[0], paths, cache, batch_size=4, workers=0)
    missing = cache.missing(encoders[0].identity, cache.digests(paths))
    assert missing.tolist() == [False] * 8 + [True] * 4


def test_unreadable_images_are_named_after_the_others_are_done(
    encoders: tuple[Encoder, Encoder], paths: list[Path], cache: FeatureCache
) -> None:
    paths[3].write_bytes(paths[3].read_bytes()[:200])
    with pytest.raises(UserError, match=r"1 images cannot be read:\n.*image3\.png"):
        extract(encoders[0], paths, cache, workers=2)
    assert cache.missing(encoders[0].identity, cache.digests(paths)).sum() == 1


def test_two_writers_at_once_and_a_damaged_shard_do_no_harm(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    digests = random.integers(0, 256, (2000, 16), dtype=np.uint8)
    features = random.normal(size=(2000, 8)).astype(np.float32)

    def write(rows: np.ndarray) -> None:
        with FeatureCache(tmp_path).writer("e") as writer:
            for part in np.array_split(rows, 20):
                writer.add(digests[part], features[part])

    halves = (np.arange(0, 1200), np.arange(800, 2000))
    threads = [threading.Thread(target=write, args=(rows,)) for rows in halves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (tmp_path / "features" / "e" / "damaged.safetensors").write_bytes(b"not a shard")
    assert (FeatureCache(tmp_path).read("e", digests) == features).all()


def test_the_index_keeps_no_file_names(paths: list[Path], cache: FeatureCache) -> None:
    cache.digests(paths)
    assert b"image" not in (cache.folder / "digests.sqlite").read_bytes()


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="--cache"):
        FeatureCache(tmp_path / "file")
