"""The images of an audit: those that are examined, and those that an encoder was pretrained on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dermino.data.identity import NameIndex, image_names
from dermino.data.manifest import ORIGINAL_IMAGE, Manifest
from dermino.errors import UserError
from dermino.evaluate.leakage import SEEN_FILE, run_folder

# Other columns may differ in type between manifests, and no audit needs them.
_COLUMNS = (
    "image", "dataset", "split", "labels", "patient_id", "lesion_id", "ori_file_path", "source",
    ORIGINAL_IMAGE,
)  # fmt: skip
_INPUTS_FILE = "inputs.json"


@dataclass(frozen=True)
class Collection:
    """All images of an audit under one another.

    Parameters
    ----------
    manifest:
        n rows.
    origins:
        The manifest or run that each row comes from, (n,) numbers of ``names``.
    names:
        The manifests and runs as they were given.
    pretraining:
        Which rows an encoder was, or is to be, pretrained on, (n,) bool.
    """

    manifest: Manifest
    origins: np.ndarray
    names: tuple[str, ...]
    pretraining: np.ndarray

    @classmethod
    def read(
        cls, manifests: Sequence[str | Path], against: Sequence[str | Path] = ()
    ) -> Collection:
        """Read manifests to examine, and manifests or pretraining runs to hold them against.

        Raises
        ------
        UserError
            If there is no image, or the manifests of a run have gone.
        """
        if not manifests:
            raise UserError("No manifest was given.", "Name those to examine.")
        parts = [Manifest.read(path) for path in manifests]
        parts += [_pretrained_on(path) for path in against]
        parts = [_reduced(part) for part in parts]
        sizes = [len(part) for part in parts]
        if not sum(sizes[: len(manifests)]):
            raise UserError("The manifests hold no image.", "Check them with: dermino data show")
        origins = np.repeat(np.arange(len(parts)), sizes)
        names = tuple(str(path) for path in [*manifests, *against])
        return cls(Manifest.join(parts), origins, names, origins >= len(manifests))

    def __len__(self) -> int:
        return len(self.manifest)


def _reduced(manifest: Manifest) -> Manifest:
    kept = [name for name in _COLUMNS if name in manifest.table.column_names]
    return Manifest(manifest.table.select(kept), manifest.root, manifest.sources)


def _pretrained_on(path: str | Path) -> Manifest:
    """Read a manifest, or the images that a run lists as seen."""
    run = run_folder(str(path))
    if run is None:
        return Manifest.read(path)
    try:
        inputs = json.loads((run / _INPUTS_FILE).read_text(encoding="utf-8"))
        manifests = [Manifest.read(name) for name in inputs["data"]]
        seen = NameIndex(pq.read_table(run / SEEN_FILE))
    except (OSError, ValueError, KeyError, pa.ArrowInvalid, UserError) as error:
        raise UserError(
            f"The images that '{run}' was trained on cannot be read: {error}",
            "Put its manifests back, or name manifests of these images with --against.",
        ) from error
    manifest = Manifest.join([_reduced(manifest) for manifest in manifests])
    return manifest.select([bool(rows) for rows in seen.find(image_names(manifest))])
