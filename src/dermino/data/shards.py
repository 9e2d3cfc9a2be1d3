"""WebDataset shards: the images of a manifest in a few large tar files, for disks and networks."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import date
from itertools import chain, count
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec
import pyarrow as pa

from dermino.data.containers import INDEX_SUFFIX, TarIndex
from dermino.data.findings import Finding, Severity, write_findings
from dermino.data.images import UnreadableImage
from dermino.data.manifest import ORIGINAL_IMAGE, Manifest, writable_manifest
from dermino.data.reference import SEPARATOR, is_url, read
from dermino.data.stored_picture import stored_mask, stored_picture
from dermino.errors import UserError
from dermino.files import atomic_path, sole_writer, writable_folder
from dermino.progress import track

MANIFEST_FILE = "manifest.parquet"
_STATE_FILE = "shards.json"
_BLOCK = 512  # bytes, of a tar file.
_READERS = 8
_READ_AHEAD = 32
_ROWS_AT_ONCE = 4096
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}

# The files of an image by suffix, such as jpg, json and mask.png.
_Sample = dict[str, bytes]


def shard(
    manifest: Manifest,
    out: str | Path,
    shard_size: int | str = "1GB",
    max_side: int | None = None,
    manifest_file: str | Path | None = None,
) -> Manifest:
    """Write the images of a manifest as WebDataset shards, and a manifest that points into them.

    Row 12 becomes ``000000012.jpg`` (or ``.png``, ..., as its bytes are), ``000000012.json`` with
    all else the manifest says of it, and ``000000012.mask.png`` where it has a mask. Beside each
    ``shard-000000.tar`` lies ``shard-000000.idx``, in DALI's format, by which single images are
    found. Bytes go in as they are. A call that was stopped goes on after the last whole shard.

    Parameters
    ----------
    manifest:
        The images. Those that are missing or no pictures are left out, and listed in
        ``<manifest_file>.findings.csv``.
    out:
        A folder, or an fsspec URL of one.
    shard_size:
        A shard is closed when it has as many bytes; a number, or text such as ``500MB``.
    max_side:
        Pictures (and masks) with a longer side are reduced to it, in pixels.
    manifest_file:
        Where to write the manifest of the shards; ``<out>/manifest.parquet`` by default. A URL
        needs one.

    Returns
    -------
    Manifest
        As the one given, row for row, but for what was left out; ``original_image`` holds the old
        references.

    Raises
    ------
    UserError
        If ``out`` holds the shards of something else, or no image can be read.
    """
    place, limit = str(out).rstrip("/"), _parse_size(shard_size)
    if manifest_file is None and is_url(place):
        raise UserError(
            f"Where shall the manifest of the shards in '{out}' be written?",
            "Name a file: --manifest-file shards.parquet",
        )
    target = writable_manifest(manifest_file or Path(place) / MANIFEST_FILE)
    with _sole_writer(place):
        _refuse_other_shards(place, manifest, limit, max_side)
        finished = _finished(place)
        first = max((row for rows in finished for row, _ in rows), default=-1) + 1
        samples = _read_samples(manifest, first, max_side)
        samples = iter(track(samples, "Images into shards", len(manifest) - first))
        for number in count(len(finished)):
            # A shard is begun only when there is an image for it.
            row, sample = next(((r, s) for r, s in samples if s), (-1, None))
            if sample is None:
                break
            _write_shard(f"{place}/{_name(number)}", chain([(row, sample)], samples), limit)
        sharded = _sharded(manifest, place, target)
        sharded.write(target)
    return sharded


def _parse_size(size: int | str) -> int:
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)B?\s*", str(size), re.I)
    if found is None or float(found[1]) == 0:
        raise UserError(f"'{size}' is not a size.", "Write it as 500MB or 2GB.")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _name(number: int) -> str:
    return f"shard-{number:06}.tar"


def _index_of(shard: str) -> str:
    return shard.removesuffix(".tar") + INDEX_SUFFIX


@contextmanager
def _sole_writer(place: str) -> Iterator[None]:
    """Keep others out of a folder, and clear away what a killed call was writing there."""
    if is_url(place):
        yield
        return
    folder = writable_folder(place)
    with sole_writer(folder):
        for left_behind in folder.glob(".shard-*.tmp"):
            left_behind.unlink(missing_ok=True)
        yield


@contextmanager
def _writing(name: str) -> Iterator[BinaryIO]:
    """Open a file or URL that has its content only once all is written."""
    if is_url(name):
        files, path = fsspec.url_to_fs(name)
        files.makedirs(path.rpartition("/")[0], exist_ok=True)
        with files.transaction, files.open(path, "wb") as file:
            yield cast(BinaryIO, file)
        return
    with atomic_path(name) as temporary, open(temporary, "wb") as file:
        yield file


def _refuse_other_shards(place: str, manifest: Manifest, limit: int, max_side: int | None) -> None:
    digest = hashlib.blake2b(digest_size=16)
    table = manifest.table.replace_schema_metadata(None).combine_chunks()
    for batch in table.to_batches(_ROWS_AT_ONCE):
        digest.update(batch.serialize())
    asked = {"manifest": digest.hexdigest(), "shard_size": limit, "max_side": max_side}
    state = f"{place}/{_STATE_FILE}"
    try:
        begun = json.loads(read(state))
    except FileNotFoundError:
        with _writing(state) as file:
            file.write(json.dumps(asked, indent=2).encode())
        return
    except ValueError as error:
        raise UserError(f"'{state}' is damaged: {error}.", "Remove the shards.") from error
    if begun != asked:
        changed = ", ".join(name for name in asked if begun.get(name) != asked[name])
        raise UserError(
            f"'{place}' holds shards made of something else (other {changed}).",
            "Choose another --out, or remove them.",
        )


def _finished(place: str) -> list[list[tuple[int, str]]]:
    """Return rows and member names of each whole shard: one that has its index beside it."""
    shards: list[list[tuple[int, str]]] = []
    while True:
        index = _index_of(f"{place}/{_name(len(shards))}")
        try:
            names = TarIndex.parse(read(index).decode()).names.tolist()
        except OSError:
            return shards
        shards.append([(int(name.split(b".")[0]), name.decode()) for name in names])


def _read_samples(
    manifest: Manifest, first: int, max_side: int | None
) -> Iterator[tuple[int, _Sample | None]]:
    """Yield the rows from ``first`` in order, read by several threads a little ahead."""
    waiting: deque[tuple[int, Future[_Sample | None]]] = deque()
    with ThreadPoolExecutor(_READERS) as pool:
        for start in range(first, len(manifest), _ROWS_AT_ONCE):
            rows = manifest.table.slice(start, _ROWS_AT_ONCE).to_pylist()
            for row, values in enumerate(rows, start):
                waiting.append((row, pool.submit(_read_sample, manifest, values, max_side)))
                if len(waiting) > _READ_AHEAD:
                    done, future = waiting.popleft()
                    yield done, future.result()
        for done, future in waiting:
            yield done, future.result()


def _read_sample(
    manifest: Manifest, values: dict[str, Any], max_side: int | None
) -> _Sample | None:
    try:
        suffix, data = stored_picture(manifest.locate(values["image"]), max_side)
    except UnreadableImage:
        return None
    known = {name: value for name, value in values.items() if value is not None}
    sample = {
        suffix: data,
        "json": json.dumps(known, default=_written, ensure_ascii=False).encode(),
    }
    if values.get("mask"):
        try:
            suffix, data = stored_mask(manifest.locate(values["mask"]), max_side)
            sample[f"mask.{suffix}"] = data
        except UnreadableImage:
            pass  # The image is good for everything else; the findings tell.
    return sample


def _written(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else str(value)


def _write_shard(name: str, samples: Iterator[tuple[int, _Sample | None]], limit: int) -> None:
    """Write samples until there are ``limit`` bytes, then the index, which makes a shard whole."""
    lines = []
    with (
        _writing(name) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for row, sample in samples:
            if sample is None:
                continue
            words = []
            for suffix, data in sample.items():
                entry = tarfile.TarInfo(f"{row:09}.{suffix}")
                entry.size = len(data)
                words.append(f"{suffix} {tar.offset + _BLOCK} {len(data)} {entry.name}")
                tar.addfile(entry, io.BytesIO(data))
            lines.append(" ".join(words))
            if tar.offset >= limit:
                break
    with _writing(_index_of(name)) as file:
        file.write("\n".join([f"v1.2 {len(lines)}", *lines, ""]).encode())


def _sharded(manifest: Manifest, place: str, target: Path) -> Manifest:
    """Return the manifest of the shards, after writing down what is not in them."""
    images: dict[int, str] = {}
    masks: dict[int, str] = {}
    for number, rows in enumerate(_finished(place)):
        prefix = f"{place}/" if is_url(place) else ""
        for row, name in rows:
            if not name.endswith(".json"):
                column = masks if ".mask." in name else images
                column[row] = f"{prefix}{_name(number)}{SEPARATOR}{name}"
    _write_findings(manifest, images, masks, target.with_suffix(".findings.csv"))
    kept = manifest.select(sorted(images))
    columns = {"image": pa.array([images[row] for row in sorted(images)], pa.string())}
    if "mask" in kept.table.column_names:
        columns["mask"] = pa.array([masks.get(row) for row in sorted(images)], pa.string())
    columns[ORIGINAL_IMAGE] = kept.original_images
    root = target.parent if is_url(place) else Path(place)
    return Manifest(kept.with_columns(**columns).table, root, manifest.sources)


def _write_findings(
    manifest: Manifest, images: dict[int, str], masks: dict[int, str], path: Path
) -> None:
    """Say why images and masks were left out; they are few, and read once more for it."""
    findings = []
    for row, values in enumerate(
        zip(manifest.column("image"), manifest.column("mask"), strict=True)
    ):
        image, mask = values
        if row in images and (mask is None or row in masks):
            continue
        problem, name = ("mask", mask) if row in images else ("image", image)
        severity: Severity = "warning" if row in images else "error"
        try:
            stored_picture(manifest.locate(name))
            reason = "it could not be read before"
        except UnreadableImage as error:
            reason = error.reason
        findings.append(
            Finding(severity, f"{problem} left out of the shards", reason, name, row + 1)
        )
    if findings:
        write_findings(findings, path)
    else:
        path.unlink(missing_ok=True)
    if not images:
        reason = findings[0].detail if findings else "there are none"
        raise UserError(
            f"None of the {len(manifest):,} images can be read; the first: {reason}.",
            f"Is the manifest's root, '{manifest.root}', where the images are?",
        )
