"""An archive of images that can be asked what looks like a picture.

A folder: ``index.faiss`` (the vectors), ``rows.parquet`` (what is known of each) and
``index.json`` (the encoder, and how the index is searched with what recall).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from dermino.data.manifest import Manifest
from dermino.data.reference import Reference
from dermino.errors import UserError
from dermino.evaluate.candidate import load_candidates
from dermino.evaluate.embed import EmbeddedImages
from dermino.evaluate.feature_cache import FeatureCache
from dermino.evaluate.features import check_files, extract, resolve_device
from dermino.files import writable_file, writable_folder, write_json, write_text
from dermino.models.encoder import Encoder
from dermino.progress import console
from dermino.search.index import Search, VectorIndex, load_faiss

_INDEX, _ROWS, _DESCRIPTION = "index.faiss", "rows.parquet", "index.json"
_VERSION = 1


def build_index(
    encoder: str,
    data: Sequence[str | Path],
    out: str | Path,
    image_size: int | None = None,
    target_recall: float = 0.95,
    exact: bool = False,
    device: str = "auto",
    cache: str | Path | None = None,
    batch_size: int = 64,
    workers: int | None = None,
) -> Archive:
    """Make the images of one or several manifests searchable.

    Features go through the feature cache, so that an interrupted call goes on where it was.

    Parameters
    ----------
    out:
        Folder of the index.
    target_recall:
        Share of the true ten nearest to find, where an archive is too large to compare every
        image; what was reached is stated.
    exact:
        Compare every image, however large the archive.
    encoder, data, image_size, device, cache, batch_size, workers:
        See :func:`dermino.evaluate.embed.embed`.

    Raises
    ------
    UserError
        For anything that the user must put right.
    """
    load_faiss()
    folder = writable_folder(out)
    embedded = EmbeddedImages.compute(encoder, data, image_size, device, cache, batch_size, workers)
    index = VectorIndex.build(embedded.features, target_recall, exact)
    index.write(folder / _INDEX)
    embedded.manifest.write(folder / _ROWS)
    description = {
        "version": _VERSION,
        "encoder": embedded.candidate.describe(),
        "images": len(index),
        "dimension": index.dimension,
        "datasets": [str(Path(path).absolute()) for path in data],
        "search": index.search_settings.to_dict(),
    }
    # Last: a folder with a description is whole.
    write_json(folder / _DESCRIPTION, description)
    archive = Archive(folder, index, embedded.manifest, description)
    console.print(f"{archive.summary}\n{folder}", markup=False, soft_wrap=True)
    return archive


@dataclass(frozen=True)
class Archive:
    """A searchable archive.

    Parameters
    ----------
    folder:
        Where it lies.
    index:
        Vectors of the n images.
    manifest:
        The n rows.
    description:
        What ``index.json`` says.
    """

    folder: Path
    index: VectorIndex
    manifest: Manifest
    description: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Archive:
        """Read an index that :func:`build_index` wrote.

        Raises
        ------
        UserError
            If it is missing, incomplete or damaged.
        """
        folder = Path(folder)
        path = folder / _DESCRIPTION
        remedy = "Build it: dermino search build --encoder E --data M --out INDEX"
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
            search = Search(**description["search"])
        except FileNotFoundError as error:
            raise UserError(
                f"'{folder}' is no search index: it has no {path.name}.", remedy
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"'{path}' is damaged: {error}.", remedy) from error
        index = VectorIndex.read(folder / _INDEX, search)
        manifest = Manifest.read(folder / _ROWS)
        if not len(index) == len(manifest) == description["images"]:
            raise UserError(f"The files of '{folder}' belong to different indexes.", remedy)
        return cls(folder, index, manifest, description)

    @property
    def summary(self) -> str:
        """What it holds, and how well it finds it, in a sentence."""
        search = self.index.search_settings
        held = f"{len(self.index):,} images as seen by {self.description['encoder']['name']}"
        if search.lists == 0:
            return f"{held}; every one is compared, so recall is 1"
        return (
            f"{held}; {search.kind}, {search.lists} lists looked at: recall@10 "
            f"{search.recall:.3f} on {search.queries} of its images, "
            f"{search.milliseconds:.1f} ms a query"
        )

    def load_encoder(self, device: torch.device) -> Encoder:
        """Load the encoder that the archive was built with.

        Raises
        ------
        UserError
            If it is gone, or has other weights now.
        """
        described = self.description["encoder"]
        encoder = load_candidates([described["spec"]], described["image_size"], device)[0].encoder
        if encoder.identity != described["identity"]:
            raise UserError(
                f"The encoder '{described['spec']}' is not the one that '{self.folder}' was built "
                "with: its weights or preprocessing differ.",
                "Put the old one back, or build the index again.",
            )
        return encoder

    def nearest(self, vectors: np.ndarray, k: int) -> pd.DataFrame:
        """Find the images whose features are most similar.

        Parameters
        ----------
        vectors:
            Features of the archive's encoder, shape (m, D), float32.
        k:
            Images for each.

        Returns
        -------
        pd.DataFrame
            Columns ``query`` (row of ``vectors``), ``rank`` (from 1), ``similarity`` (cosine),
            ``path``, and the columns of the manifest.
        """
        similarities, rows = self.index.search(vectors, k)
        found = rows.ravel() >= 0  # FAISS fills up with -1 where the lists held too few.
        queries, ranks = np.divmod(np.arange(rows.size), rows.shape[1])
        chosen = rows.ravel()[found]
        frame = self.manifest.select(chosen).frame.reset_index(drop=True)
        frame.insert(0, "path", [self.manifest.path(int(row)) for row in chosen])
        frame.insert(0, "similarity", similarities.ravel()[found])
        frame.insert(0, "rank", ranks[found] + 1)
        frame.insert(0, "query", queries[found])
        return frame


def query_index(
    index: str | Path,
    images: Sequence[str | Path],
    k: int = 10,
    out: str | Path | None = None,
    html: str | Path | None = None,
    device: str = "auto",
    cache: str | Path | None = None,
) -> pd.DataFrame:
    """Find the images of an archive that look most like given pictures.

    Parameters
    ----------
    index:
        Folder that :func:`build_index` wrote.
    images:
        Picture files.
    k:
        Images for each.
    out:
        CSV file for the results.
    html:
        Page that shows them; it holds small copies of the pictures.
    device, cache:
        See :func:`dermino.evaluate.embed.embed`.

    Returns
    -------
    pd.DataFrame
        As :meth:`Archive.nearest`, with the query's path in ``query``.

    Raises
    ------
    UserError
        For anything that the user must put right.
    """
    if k < 1:
        raise UserError(f"--k must be at least 1, not {k}.")
    if not images:
        raise UserError("No picture was given.", "dermino search query INDEX IMAGE...")
    paths: list[Reference] = [Path(image) for image in images]
    for target in (out, html):
        if target is not None:
            writable_file(target, inputs=images)
    check_files(paths)
    archive = Archive.open(index)
    encoder = archive.load_encoder(resolve_device(device))
    vectors = extract(encoder, paths, FeatureCache(cache), workers=0)
    found = archive.nearest(vectors, k)
    found["query"] = [str(paths[query]) for query in found["query"]]
    if out is not None:
        _write_csv(found, Path(out))
    if html is not None:
        from dermino.search.page import write_page

        write_page(archive, found, Path(html))
    return found


def _write_csv(found: pd.DataFrame, path: Path) -> None:
    listed = found.assign(labels=found["labels"].map("; ".join))
    write_text(path, listed.dropna(axis="columns", how="all").to_csv(index=False))
