"""Write a data set of procedural skin images: pictures, masks and manifest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
from PIL import Image

from dermino.data.generate.captions import write_caption
from dermino.data.generate.case import Case
from dermino.data.generate.diagnoses import DIAGNOSES
from dermino.data.generate.population import population
from dermino.data.generate.render import render
from dermino.data.manifest import Manifest
from dermino.data.source_info import SourceInfo
from dermino.errors import UserError
from dermino.files import atomic_path, writable_folder
from dermino.progress import track

INFO = SourceInfo(
    name="synthetic",
    title="Procedural skin images, for demonstration and tests; not for science",
    licence="CC0-1.0; synthetic: shows no person, carries no medical information",
    vocabulary=tuple(diagnosis.name for diagnosis in DIAGNOSES),
    synthetic=True,
)
_CHUNK = 32
_SMALLEST, _LARGEST = 32, 2048


def generate(
    out: str | Path,
    n: int = 1000,
    size: int = 224,
    seed: int = 0,
    workers: int | None = None,
    labelled: float = 1.0,
) -> Manifest:
    """Draw ``n`` skin images with masks, captions, diagnoses and follow-up visits.

    They are drawn by rules, for demonstrations and tests: nothing measured on them says anything
    about skin. Image i of a seed is the same whatever ``n`` and ``workers``. The manifest is
    written last, so a folder that has one is complete. Like all work in several processes, a
    script must call this under ``if __name__ == "__main__":`` unless ``workers`` is 1.

    Parameters
    ----------
    out:
        Folder for ``images/``, ``masks/`` and ``manifest.parquet``.
    n:
        Number of images.
    size:
        Their width and height in pixels.
    seed:
        Names the population that the images are cut from.
    workers:
        Processes that draw; default: one for each core.
    labelled:
        Share of the lesions whose ``labels`` are filled; the others keep their diagnosis in the
        column ``diagnosis`` only, and their captions do not name it.

    Returns
    -------
    The manifest, with the extra columns ``diagnosis``, ``malignant``, ``diameter_mm``,
    ``acne_grade`` and ``lesion_count`` (both empty but for acne), ``hairs`` and ``ruler``.

    Raises
    ------
    UserError
        If a number is out of range or ``out`` cannot be written to.
    """
    workers = (os.cpu_count() or 1) if workers is None else workers
    for name, value, low, high in (
        ("n", n, 1, None),
        ("size", size, _SMALLEST, _LARGEST),
        ("seed", seed, 0, None),
        ("workers", workers, 1, None),
        ("labelled", labelled, 0, 1),
    ):
        if value < low or (high is not None and value > high):
            limits = f"at least {low}" if high is None else f"between {low} and {high}"
            raise UserError(f"{name} is {value}.", f"It must be {limits}.")
    out = writable_folder(out)
    target = out / "manifest.parquet"
    if target.is_file() and not all(i.synthetic for i in Manifest.read(target).sources.values()):
        raise UserError(
            f"'{target}' lists images that were not generated, and would be lost.",
            "Choose another --out.",
        )
    for folder in ("images", "masks"):
        writable_folder(out / folder)
    target.unlink(missing_ok=True)
    cases = list(enumerate(islice(population(seed, size), n)))
    drawn = _draw(partial(_write, out, labelled), cases, workers)
    rows = list(track(drawn, "Drawing skin images", total=n))
    frame = pd.DataFrame(rows).astype({"acne_grade": "Int8", "lesion_count": "Int16"})
    manifest = Manifest.from_frame(frame, out, [INFO])
    manifest.write(target)
    return manifest


def _draw(
    write: Callable[[tuple[int, Case]], dict[str, object]],
    cases: list[tuple[int, Case]],
    workers: int,
) -> Iterator[dict[str, object]]:
    """Apply ``write`` to all cases, in order; stopping early cancels what has not begun."""
    if workers == 1 or len(cases) <= _CHUNK:
        yield from map(write, cases)
        return
    pool = ProcessPoolExecutor(min(workers, len(cases)), mp_context=get_context("spawn"))
    try:
        share = max(1, len(cases) // (4 * workers))
        yield from pool.map(write, cases, chunksize=min(_CHUNK, share))
    finally:
        pool.shutdown(cancel_futures=True)


def _write(out: Path, labelled: float, numbered: tuple[int, Case]) -> dict[str, object]:
    """Draw one case, write its two files and return its row of the manifest."""
    number, case = numbered
    name = f"{number:06d}"
    image, mask = render(case)
    _save(Image.fromarray(image), out / "images" / f"{name}.jpg", quality=90)
    _save(Image.fromarray(mask), out / "masks" / f"{name}.png", compress_level=1)
    known = case.label_rank < labelled
    return {
        "image": f"images/{name}.jpg",
        "mask": f"masks/{name}.png",
        "dataset": INFO.name,
        "split": "",
        "labels": [case.diagnosis] if known else [],
        "caption": write_caption(case, name_diagnosis=known),
        "patient_id": case.patient_id,
        "lesion_id": case.lesion_id,
        "modality": case.modality,
        "skin_type": case.skin_type,
        "sex": case.sex,
        "age": float(case.age),
        "site": case.site,
        "date": case.day,
        "diagnosis": case.diagnosis,
        "malignant": case.malignant,
        "diameter_mm": round(case.diameter, 2),
        "acne_grade": case.acne_grade,
        "lesion_count": case.papules or None,
        "hairs": case.photograph.hairs,
        "ruler": case.photograph.ruler,
    }


def _save(image: Image.Image, path: Path, **options: int) -> None:
    """Write an image whole or not at all; unlike a manifest it is cheaply drawn again."""
    with atomic_path(path, sync=False) as temporary:
        image.save(temporary, format="JPEG" if path.suffix == ".jpg" else "PNG", **options)
