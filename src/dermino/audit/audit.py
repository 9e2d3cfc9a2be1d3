"""``dermino data audit``: which images are the same, and where that makes results flatter."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dermino.audit.calibration import COSINE, Calibration, Distinct, default_rate
from dermino.audit.collection import Collection
from dermino.audit.groups import divided_groups
from dermino.audit.pairs import (
    LEAKS,
    PROBLEMS,
    described,
    equal_content,
    named_alike,
    spread,
)
from dermino.audit.pictures import Pictures
from dermino.audit.vector_search import import_faiss
from dermino.data.findings import Finding, write_findings
from dermino.data.identity import group_names
from dermino.errors import UserError
from dermino.evaluate.feature_cache import FeatureCache
from dermino.evaluate.features import check_files, resolve_device
from dermino.evaluate.leakage import PAIRS_FILE
from dermino.files import atomic_path, sole_writer, writable_folder, write_json
from dermino.models.encoder import Encoder
from dermino.models.load import load_encoder

GROUPS_FILE = "groups.parquet"
SUMMARY_FILE = "summary.json"
FINDINGS_FILE = "findings.csv"
_UNFINISHED = "unfinished"
_LOOK = "Look at the pair in audit.html"
_REMEDIES: Mapping[str, str] = {
    PROBLEMS[0]: "Pretrain without it, or leave it out of the test images.",
    PROBLEMS[1]: "Move both into one split.",
    PROBLEMS[2]: f"{_LOOK}: one of the labels is wrong, or both are two views of one case.",
    PROBLEMS[3]: "",
    PROBLEMS[4]: "Keep one of them, or they count twice.",
}


@dataclass(frozen=True)
class Audit:
    """What an audit found; the files in its folder hold the same.

    Parameters
    ----------
    pairs:
        Same images, as :func:`dermino.audit.pairs.described` tells of them, with
        ``same_content``, ``same_name`` (bool), ``hash_distance``, ``orientation`` and ``cosine``.
    groups:
        Patients and lesions on both sides, see :func:`dermino.audit.groups.divided_groups`.
    summary:
        Plain values: what was compared, thresholds and counts.
    """

    pairs: pd.DataFrame
    groups: pd.DataFrame
    summary: Mapping[str, Any]

    @property
    def leaks(self) -> int:
        """Pairs, patients and lesions that connect test images with what was learnt from."""
        return int(self.pairs["problem"].isin(LEAKS).sum()) + len(self.groups)


def audit(
    manifests: Sequence[str | Path],
    out: str | Path,
    against: Sequence[str | Path] = (),
    encoder: str | None = None,
    pictures: bool = True,
    false_positive_rate: float | None = None,
    image_size: int | None = None,
    seed: int = 0,
    device: str = "auto",
    cache: str | Path | None = None,
    batch_size: int = 64,
    workers: int | None = None,
) -> Audit:
    """Find images that are the same, within and across manifests, and what that spoils.

    Images are the same by their names, by their content, by perceptual hash in any orientation
    and, with an encoder, by its features. Nothing is changed or removed. An interrupted audit
    goes on where it was stopped.

    Parameters
    ----------
    manifests:
        The images to examine.
    out:
        Folder for ``pairs.parquet``, ``groups.parquet``, ``summary.json`` and ``findings.csv``.
    against:
        Manifests or run folders: images that an encoder was, or is to be, pretrained on. They are
        compared with the images to examine, not with one another.
    encoder:
        A name as :func:`dermino.models.load.load_encoder` takes it.
    pictures:
        False compares names, lesions and patients only; no image is read.
    false_positive_rate:
        Share of the pairs of different pictures that may be taken for the same. Default: one
        false pair for a thousand images.
    image_size:
        Side of the encoder's input in pixels, where it should differ from its own.
    seed:
        Of the samples that thresholds are calibrated with.
    device, cache, batch_size, workers:
        As for :func:`dermino.evaluate.embed.embed`.

    Raises
    ------
    UserError
        For anything that the user must put right.
    """
    if false_positive_rate is not None and not 0 < false_positive_rate < 1:
        raise UserError(
            f"--false-positive-rate must lie between 0 and 1, not {false_positive_rate}.",
            "A thousandth of one divided by the number of images is a good value.",
        )
    if encoder and not pictures:
        raise UserError("--encoder looks at pictures, and --no-pictures does not.", "Drop one.")
    folder = writable_folder(out)
    collection = Collection.read(manifests, against)
    rate = false_positive_rate or default_rate(len(collection))
    found, thresholds = named_alike(collection).assign(same_name=True), {}
    with sole_writer(folder):
        if pictures:
            model = None
            if encoder:
                import_faiss()
                model = load_encoder(encoder, image_size, resolve_device(device))
            looked = _Looked.at(collection, model, FeatureCache(cache), device, batch_size, workers)
            thresholds = looked.calibrate(rate, seed)
            found = looked.find(found, thresholds, folder / _UNFINISHED, seed)
        else:
            found = found.assign(
                same_content=False, hash_distance=-1, orientation="", cosine=np.nan
            )
        result = Audit(described(collection, found), divided_groups(collection), {})
        summary = _summary(collection, result, thresholds, encoder, rate)
        result = Audit(result.pairs, result.groups, summary)
        _write(result, folder)
        shutil.rmtree(folder / _UNFINISHED, ignore_errors=True)
    return result


@dataclass(frozen=True)
class _Looked:
    """A collection's pictures, each content once; ``contents`` numbers that of each row."""

    collection: Collection
    contents: np.ndarray
    first: np.ndarray
    pictures: Pictures

    @classmethod
    def at(
        cls,
        collection: Collection,
        encoder: Encoder | None,
        cache: FeatureCache,
        device: str,
        batch_size: int,
        workers: int | None,
    ) -> _Looked:
        """Read the pictures."""
        paths = collection.manifest.paths()
        check_files(paths)
        digests, first, contents = np.unique(
            cache.digests(paths), axis=0, return_index=True, return_inverse=True
        )
        pictures = Pictures.read(
            [paths[row] for row in first],
            digests,
            encoder,
            cache,
            resolve_device(device),
            batch_size,
            workers,
        )
        return cls(collection, contents.reshape(-1), first, pictures)

    def calibrate(self, rate: float, seed: int) -> dict[str, Calibration]:
        """Find the thresholds."""
        manifest = self.collection.manifest.select(self.first)
        lesions = group_names(manifest, "lesion_id")
        patients = group_names(manifest, "patient_id")
        groups = [lesion or patient for lesion, patient in zip(lesions, patients, strict=True)]
        labels = [" | ".join(sorted(own)) or None for own in manifest.labels]
        columns = (manifest.column("dataset"), groups, labels)
        numbers = (pd.factorize(np.array(column, object))[0] for column in columns)
        return self.pictures.calibrate(Distinct(*numbers), rate, seed)

    def find(
        self,
        named: pd.DataFrame,
        thresholds: dict[str, Calibration],
        folder: Path,
        seed: int,
    ) -> pd.DataFrame:
        """Add the pairs that are the same by content or look, and measure all pairs."""
        near = self.pictures.search(thresholds, folder, seed)
        looked = [
            equal_content(self.collection, self.contents),
            spread(self.collection, self.contents, near),
        ]
        pairs = pd.concat([named[["a", "b"]], *looked]).drop_duplicates(ignore_index=True)
        pairs = pairs.merge(named, how="left", on=["a", "b"])
        first, second = self.contents[pairs["a"]], self.contents[pairs["b"]]
        measured = self.pictures.measured(first, second)
        return pairs.assign(
            same_name=pairs["same_name"].eq(True), same_content=first == second
        ).join(measured)


def _summary(
    collection: Collection,
    result: Audit,
    thresholds: Mapping[str, Calibration],
    encoder: str | None,
    rate: float,
) -> dict[str, Any]:
    counts = result.pairs["problem"].value_counts()
    sizes = np.bincount(collection.origins, minlength=len(collection.names))
    described_thresholds = {name: own.describe() for name, own in thresholds.items()}
    if "features" in described_thresholds:
        steps = thresholds["features"].steps
        described_thresholds["features"]["cosine"] = 1 - steps / COSINE.steps
    pretraining = np.unique(collection.origins[collection.pretraining])
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "root": str(collection.manifest.root.absolute()),
        "examined": [
            {"name": name, "images": int(sizes[number])}
            for number, name in enumerate(collection.names)
            if number not in pretraining
        ],
        "against": [
            {"name": collection.names[number], "images": int(sizes[number])}
            for number in pretraining
        ],
        "encoder": encoder,
        "false_positive_rate": rate,
        "thresholds": described_thresholds,
        "pairs": {problem: int(counts.get(problem, 0)) for problem in PROBLEMS},
        "groups": {
            f"{column}: {problem}": len(own)
            for (column, problem), own in result.groups.groupby(["column", "problem"])
        },
        "leaks": result.leaks,
    }


def _write(result: Audit, folder: Path) -> None:
    for name, table in ((GROUPS_FILE, result.groups), (PAIRS_FILE, result.pairs)):
        with atomic_path(folder / name) as temporary:
            table.to_parquet(temporary, index=False)
    write_findings(_findings(result), folder / FINDINGS_FILE)
    write_json(folder / SUMMARY_FILE, result.summary)


def _findings(result: Audit) -> list[Finding]:
    found = [
        Finding(
            "warning" if pair.problem in PROBLEMS[:3] else "note",
            str(pair.problem),
            f"{pair.image_b} ({pair.manifest_b})",
            f"{pair.image_a} ({pair.manifest_a})",
            remedy=_REMEDIES[str(pair.problem)],
        )
        for pair in result.pairs.itertuples()
    ]
    return found + [
        Finding(
            "warning",
            f"{'patient' if group.column == 'patient_id' else 'lesion'} {group.problem}",
            str(group.name),
            remedy="Split by patient or lesion: dermino data split",
        )
        for group in result.groups.itertuples()
    ]
