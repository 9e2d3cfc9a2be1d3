"""Features of a manifest's images as a table, for whatever else one wants to do with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dermino.data.manifest import Manifest, read_manifests
from dermino.errors import UserError
from dermino.evaluate.candidate import Candidate, load_candidates
from dermino.evaluate.feature_cache import FeatureCache
from dermino.evaluate.features import check_files, extract, resolve_device
from dermino.files import atomic_path, writable_file
from dermino.progress import console


@dataclass(frozen=True)
class EmbeddedImages:
    """The images of manifests as an encoder sees them.

    Parameters
    ----------
    manifest:
        The n images.
    candidate:
        The encoder.
    features:
        (n, D) float32.
    """

    manifest: Manifest
    candidate: Candidate
    features: np.ndarray

    @classmethod
    def compute(
        cls,
        encoder: str,
        data: Sequence[str | Path],
        image_size: int | None,
        device: str,
        cache: str | Path | None,
        batch_size: int,
        workers: int | None,
    ) -> EmbeddedImages:
        """Read manifests and compute the features that the cache lacks.

        Parameters are those of :func:`embed`.

        Raises
        ------
        UserError
            If there is no image, one is missing or cannot be read, or the encoder cannot be had.
        """
        feature_cache = FeatureCache(cache)
        where = resolve_device(device)
        manifest = read_manifests(data)
        paths = manifest.paths()
        check_files(paths)
        candidate = load_candidates([encoder], image_size, where)[0]
        features = extract(candidate.encoder, paths, feature_cache, batch_size, workers)
        return cls(manifest, candidate, features)


def embed(
    encoder: str,
    data: Sequence[str | Path],
    out: str | Path,
    image_size: int | None = None,
    device: str = "auto",
    cache: str | Path | None = None,
    batch_size: int = 64,
    workers: int | None = None,
) -> pa.Table:
    """Write one feature vector for each image of one or several manifests.

    Parameters
    ----------
    encoder:
        A name as :func:`dermino.models.load.load_encoder` takes it.
    data:
        Manifests.
    out:
        Parquet file with the columns ``image`` (relative to the root that the file's metadata
        names), ``dataset``, ``split`` and ``feature``, a list of D float32.
    image_size:
        Side of the encoder's input in pixels, where it should differ from its own.
    device:
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
    cache:
        Folder of the feature cache. Default: that of the user.
    batch_size:
        Images in a forward pass.
    workers:
        Processes that decode images. Default: as many as there are cores.

    Returns
    -------
    pa.Table
        What was written.

    Raises
    ------
    UserError
        For anything that the user must put right.
    """
    out = writable_file(out, inputs=data)
    if out.suffix != ".parquet":
        raise UserError(f"'{out}' does not end in .parquet.", "Features are written as Parquet.")
    embedded = EmbeddedImages.compute(encoder, data, image_size, device, cache, batch_size, workers)
    manifest, features = embedded.manifest, embedded.features
    described = {**embedded.candidate.describe(), "root": str(manifest.root.absolute())}
    table = manifest.table.select(["image", "dataset", "split"]).append_column(
        "feature", pa.FixedSizeListArray.from_arrays(features.ravel(), features.shape[1])
    )
    table = table.replace_schema_metadata({"dermino": json.dumps(described)})
    with atomic_path(out) as temporary:
        pq.write_table(table, temporary, compression="zstd")
    console.print(
        f"{features.shape[0]} x {features.shape[1]} features: {out}", markup=False, soft_wrap=True
    )
    return table
