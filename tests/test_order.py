"""Which image is shown when: every image once an epoch, or sources by temperature, or by shard."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from dermino.data.manifest import Manifest
from dermino.pretrain.config import DataConfig
from dermino.pretrain.order import Order, source_shares
from dermino.pretrain.streams import Stream, generator

SIZES = {"large": 900, "small": 90, "tiny": 10}


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    datasets = np.repeat(list(SIZES), list(SIZES.values()))
    np.random.default_rng(0).shuffle(datasets)
    images = [f"shard-{row // 40:06}.tar!/{row}.jpg" for row in range(len(datasets))]
    return Manifest.from_frame(pd.DataFrame({"image": images, "dataset": datasets}), Path())


def test_by_default_an_epoch_is_the_permutation_it_always_was(manifest: Manifest) -> None:
    order = Order(manifest, DataConfig(), seed=3)
    rows = [order.row(position) for position in range(2000)]
    for epoch in range(2):
        expected = generator(3, Stream.ORDER, epoch).permutation(1000)
        np.testing.assert_array_equal(rows[epoch * 1000 : (epoch + 1) * 1000], expected)


@pytest.mark.parametrize("temperature", [1.5, 5.0, 1000.0])
def test_sources_are_shown_in_proportion_to_a_root_of_their_size(
    manifest: Manifest, temperature: float
) -> None:
    config = DataConfig(sampling_temperature=temperature)
    order = Order(manifest, config, seed=0)
    datasets = np.array(manifest.column("dataset"))
    epochs = [order.epoch(number) for number in range(10)]
    shown = np.concatenate(epochs)
    weights = {name: size ** (1 / temperature) for name, size in SIZES.items()}
    for name, size in SIZES.items():
        share = weights[name] / sum(weights.values())
        for epoch in epochs:
            assert abs((datasets[epoch] == name).sum() - 1000 * share) < 2
        # A source goes through all its images before it shows one again.
        counts = np.bincount(shown, minlength=1000)[datasets == name]
        assert abs(counts.sum() - 10_000 * share) <= 1
        assert counts.max() - counts.min() <= 1
        assert counts.sum() >= size
        # And it is spread over the epoch: halves hold about as many.
        first, second = ((datasets[half] == name).sum() for half in np.split(epochs[0], 2))
        assert abs(first - second) < 5 * np.sqrt(1000 * share)
    assert source_shares([900, 90, 10], config).sum() == pytest.approx(1)


@pytest.mark.parametrize("options", [{"sampling_temperature": 3}, {"order": "shards"}])
def test_a_position_does_not_depend_on_those_before(manifest: Manifest, options: dict) -> None:
    config = DataConfig(**options)
    straight = Order(manifest, config, seed=1)
    rows = [straight.row(position) for position in range(3000)]
    for start in (2999, 17, 1500):
        assert Order(manifest, config, seed=1).row(start) == rows[start]
    assert [Order(manifest, config, seed=2).row(position) for position in range(9)] != rows[:9]


def test_shards_are_shown_a_few_at_a_time(manifest: Manifest) -> None:
    order = Order(manifest, DataConfig(order="shards", shard_buffer=5), seed=0)
    first, second = order.epoch(0), order.epoch(1)
    assert sorted(first) == sorted(second) == list(range(1000))
    assert not np.array_equal(first, second)
    blocks = first.reshape(5, 200)
    shards = [set(block // 40) for block in blocks]
    assert [len(block) for block in shards] == [5] * 5
    assert len(set.union(*shards)) == 25
    for block in blocks:
        assert (np.diff(block.astype(int) // 40) != 0).mean() > 0.7  # Mixed within the block.


def test_both_ways_at_once_are_refused() -> None:
    with pytest.raises(ValidationError, match="sampling_temperature must be 1"):
        DataConfig(order="shards", sampling_temperature=2)
