"""Which image is shown at which place of a run."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dermino.data.manifest import Manifest
from dermino.data.reference import SEPARATOR
from dermino.pretrain.config import DataConfig
from dermino.pretrain.streams import Stream, generator


class Order:
    """The rows of a manifest by position; an epoch has as many positions as there are rows.

    Positions are addresses: the row at one does not depend on which others were asked for.

    Parameters
    ----------
    manifest:
        The images.
    config:
        With a sampling temperature of 1 each epoch is a permutation of all rows. With a higher
        one, sources take shares of each epoch as :func:`source_shares` says, and each goes
        through all its own images before it shows one again. With ``shards``, an epoch takes the
        containers in a new order, ``shard_buffer`` at a time, and shuffles the images of those.
    seed:
        Seed of the run.
    """

    def __init__(self, manifest: Manifest, config: DataConfig, seed: int) -> None:
        self.num_images = len(manifest)
        self.config, self.seed = config, seed
        self._groups: list[np.ndarray] = []
        if config.order == "shards":
            self._groups = _groups(_containers(manifest.table["image"]))
        elif config.sampling_temperature > 1:
            self._groups = _groups(manifest.table["dataset"])
        self._latest: tuple[int, np.ndarray] | None = None

    def row(self, position: int) -> int:
        """Return the manifest row shown at a position."""
        epoch, place = divmod(position, self.num_images)
        if self._latest is None or self._latest[0] != epoch:
            self._latest = epoch, self.epoch(epoch)
        return int(self._latest[1][place])

    def epoch(self, number: int) -> np.ndarray:
        """Return the rows of one epoch, shape (n,), uint32."""
        random = generator(self.seed, Stream.ORDER, number)
        if self.config.order == "shards":
            return self._shard_by_shard(random)
        if self._groups:
            return random.permutation(self._by_source(number))
        return random.permutation(np.arange(self.num_images, dtype=np.uint32))

    def _shard_by_shard(self, random: np.random.Generator) -> np.ndarray:
        shards = random.permutation(len(self._groups))
        starts = range(0, len(shards), self.config.shard_buffer)
        blocks = (shards[start : start + self.config.shard_buffer] for start in starts)
        rows = [np.concatenate([self._groups[i] for i in block]) for block in blocks]
        return np.concatenate([random.permutation(block) for block in rows])

    def _by_source(self, epoch: int) -> np.ndarray:
        """Return the rows of one epoch source by source."""
        shares = source_shares([len(rows) for rows in self._groups], self.config)
        # Rounding where sources meet, not each share, makes the counts of all epochs add up.
        edges = np.concatenate([[0], np.cumsum(shares)])
        edges *= self.num_images / edges[-1]
        begin, end = (np.diff(np.rint(edges * n)).astype(int) for n in (epoch, epoch + 1))
        draws = zip(begin.tolist(), end.tolist(), strict=True)
        return np.concatenate([self._draw(source, *draw) for source, draw in enumerate(draws)])

    def _draw(self, source: int, begin: int, end: int) -> np.ndarray:
        """Return draws ``begin`` to ``end`` of a source: pass after pass through its images."""
        rows = self._groups[source]
        passes = range(begin // len(rows), (end - 1) // len(rows) + 1)
        shuffled = [
            generator(self.seed, Stream.SOURCE, source << 32 | number).permutation(rows)
            for number in passes
        ]
        first = passes.start * len(rows)
        return np.concatenate([*shuffled, rows[:0]])[begin - first : end - first]


def source_shares(images: list[int], config: DataConfig) -> np.ndarray:
    """Return the share of each source in what is shown, shape (sources,), sum 1.

    p_s is proportional to n_s^(1/T), n_s being its number of images and T the temperature: 1
    leaves the shares as they are, and they become equal as T grows. Section 2.2 of Arivazhagan et
    al., Massively Multilingual Neural Machine Translation in the Wild (2019).
    """
    weights = np.asarray(images, dtype=np.float64) ** (1 / config.sampling_temperature)
    return weights / weights.sum()


def _containers(images: pa.ChunkedArray) -> pa.ChunkedArray:
    """The container of each image; of a file by itself its folder."""
    return pc.if_else(
        pc.match_substring(images, SEPARATOR),
        pc.replace_substring_regex(images, f"{SEPARATOR}.*$", ""),
        pc.replace_substring_regex(images, "/?[^/]*$", ""),
    )


def _groups(values: pa.ChunkedArray) -> list[np.ndarray]:
    """The rows of each value, (n_s,) uint32, the values in the order in which they first appear."""
    encoded = values.combine_chunks().dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    rows = np.argsort(codes, kind="stable").astype(np.uint32)
    return np.split(rows, np.cumsum(np.bincount(codes))[:-1])
