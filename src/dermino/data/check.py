"""Reading every picture once, before a long run does: what is unreadable, what is unusual."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from dermino.data.findings import Finding, write_findings
from dermino.data.images import (
    JPEG_FORMATS,
    UnreadableImage,
    decode,
    open_image,
    read_bytes,
)
from dermino.data.manifest import Manifest
from dermino.data.reference import Reference
from dermino.errors import UserError
from dermino.files import writable_folder
from dermino.progress import track

_BLOCK = 4096
_ORIENTATION = 0x0112
_PNG_BIT_DEPTH = 24  # Where a PNG file says how many bits a channel has.
_REMEDIES = {
    "there is no such file": "Restore the file, or correct the path or the manifest's root.",
    "the file is empty": "Copy or download it again.",
    "its pixels cannot be decoded": "Copy or download it again; it is damaged or cut short.",
    "it has too many pixels": "Reduce it, or cut it into tiles.",
}


@dataclass(frozen=True)
class CheckResult:
    """What reading every picture of a manifest gave.

    ``findings`` has one entry for each thing found; ``readable`` and ``unreadable`` share the
    manifest's rows between them.
    """

    findings: list[Finding]
    readable: Manifest
    unreadable: Manifest


def check(
    manifest: Manifest, out: str | Path | None = None, workers: int | None = None
) -> CheckResult:
    """Decode every picture and mask of a manifest as training would, and say what is wrong.

    Pictures that cannot be read are set aside; CMYK, 16-bit, animated and rotated ones are
    read and reported, as are masks that are absent or of another size, and repeated paths.

    Parameters
    ----------
    manifest:
        What to check; it is not changed.
    out:
        Where to write, without suffix: ``<out>.findings.csv``, ``<out>.readable.parquet`` and
        ``<out>.unreadable.parquet``; of the last two only those that have rows.
    workers:
        Threads; as many as there are processors by default.

    Raises
    ------
    UserError
        If no picture at all can be read; the findings are written before.
    """
    if out is not None:
        writable_folder(Path(out).parent)
    repeated = _repeated(manifest)
    findings: list[Finding] = []
    readable = np.ones(len(manifest), dtype=bool)
    inspected = _inspect_all(manifest, workers or _processors())
    for row, found in enumerate(track(inspected, "Reading images", total=len(manifest))):
        found += repeated.get(row, [])
        readable[row] = not any(finding.severity == "error" for finding in found)
        findings += [replace(finding, row=row + 1) for finding in found]
    result = CheckResult(findings, manifest.select(readable), manifest.select(~readable))
    if out is not None:
        _write(result, Path(out))
    if not readable.any():
        reason = findings[0].problem if findings else "the manifest has no rows"
        raise UserError(
            f"None of the {len(manifest):,} images can be read; the first: {reason}.",
            f"Is the manifest's root, '{manifest.root}', where the images are?",
        )
    return result


def _write(result: CheckResult, out: Path) -> None:
    write_findings(result.findings, f"{out}.findings.csv")
    for name, part in (("readable", result.readable), ("unreadable", result.unreadable)):
        path = Path(f"{out}.{name}.parquet")
        if len(part):
            part.write(path)
        else:
            path.unlink(missing_ok=True)  # It is of an earlier check, before things changed.


def _processors() -> int:
    """How many processors this process may use, which a container may limit."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _repeated(manifest: Manifest) -> dict[int, list[Finding]]:
    first: dict[str, int] = {}
    found: dict[int, list[Finding]] = {}
    for row, image in enumerate(manifest.column("image")):
        if first.setdefault(image, row) != row:
            remedy = "Keep one of the rows, or they count twice and may fall into two splits."
            detail = f"as in row {first[image] + 1}"
            path = str(manifest.path(row))
            found[row] = [Finding("warning", "image is listed twice", detail, path, remedy=remedy)]
    return found


def _inspect_all(manifest: Manifest, workers: int) -> Iterator[list[Finding]]:
    """Yield the findings of each row; decoding releases the interpreter's lock."""
    masks = manifest.column("mask")
    with ThreadPoolExecutor(workers) as pool:
        # In blocks, so that millions of rows do not wait in the pool's queue at once.
        for start in range(0, len(manifest), _BLOCK):
            rows = range(start, min(start + _BLOCK, len(manifest)))
            paths = [manifest.path(row) for row in rows]
            block = [manifest.locate(masks[row]) if masks[row] else None for row in rows]
            yield from pool.map(lambda path, mask: list(_inspect(path, mask)), paths, block)


def _inspect(path: Reference, mask: Reference | None) -> Iterator[Finding]:
    try:
        data = read_bytes(path)
        image = open_image(data, path)
        unusual = list(_unusual(image, data))
        raw_size = image.size
        pixels = decode(image, data, path)
    except UnreadableImage as error:
        remedy = _REMEDIES.get(error.reason, "Replace or remove the file.")
        yield Finding("error", error.reason, error.detail, str(path), remedy=remedy)
        return
    for problem, remedy in unusual:
        yield Finding("note", problem, "", str(path), remedy=remedy)
    if mask is not None:
        height, width = pixels.shape[1:]
        yield from _inspect_mask(mask, (width, height), raw_size)


def _unusual(image: Image.Image, data: bytes) -> Iterator[tuple[str, str]]:
    if image.mode == "CMYK":
        yield "CMYK colours", "Colours are converted without a profile: look at them once."
    if image.mode.startswith("I") or (image.format == "PNG" and data[_PNG_BIT_DEPTH] == 16):
        yield "16 bits a channel", "It is scaled to 8 bits: make sure it uses the whole range."
    if image.format not in JPEG_FORMATS and getattr(image, "n_frames", 1) > 1:
        yield "several frames or pages", "The first one is used."
    if image.format in JPEG_FORMATS and image.getexif().get(_ORIENTATION, 1) not in {0, 1}:
        yield "rotated by EXIF", "It is turned upright when read: its mask must be upright too."


def _inspect_mask(
    path: Reference, size: tuple[int, int], raw_size: tuple[int, int]
) -> Iterator[Finding]:
    try:
        data = read_bytes(path)
        mask = open_image(data, path)
        mask_size = mask.size
        decode(mask, data, path)
    except UnreadableImage as error:
        problem = f"mask: {error.reason}"
        remedy = "Restore the mask; the image is used without it for everything else."
        yield Finding("warning", problem, error.detail, str(path), remedy=remedy)
        return
    if mask_size == size:
        return
    detail = f"{mask_size[0]} x {mask_size[1]}, image {size[0]} x {size[1]}"
    remedy = "Use the mask that belongs to this picture."
    if mask_size == raw_size:
        remedy = "The mask lies as the picture is stored: rotate it as EXIF says."
    yield Finding("warning", "mask has another size", detail, str(path), remedy=remedy)
