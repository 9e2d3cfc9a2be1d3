"""``dermino demo``: the whole way, from images to a report, in minutes on a laptop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dermino.data.check import check
from dermino.data.generate import generate
from dermino.data.manifest import Manifest
from dermino.data.source import import_source
from dermino.data.split import split
from dermino.errors import UserError
from dermino.evaluate.derive import derive_tasks
from dermino.evaluate.evaluate import evaluate
from dermino.files import writable_folder, write_text
from dermino.knowledge.build import build_taxonomy
from dermino.pretrain.export import START_FILE
from dermino.pretrain.pretrain import pretrain
from dermino.progress import console
from dermino.report.page import report

# Enough for the losses to move and few enough for two cores and five minutes.
_GENERATED_IMAGES = 1600
_GENERATED_SIZE = 112
_LABELLED_SHARE = 0.6
_SEED = 0
_BEGUN = "images.txt"


def demo(
    out: str | Path = "demo", data: str | Path | None = None, overrides: Sequence[str] = ()
) -> Path:
    """Import or generate images, pretrain the demo recipe on half, evaluate on the other half.

    What an earlier, interrupted call left in ``out`` is used again.

    Parameters
    ----------
    out:
        Folder for everything the demo writes.
    data:
        A folder of images (sub-folders are classes) or a manifest; a split in it is kept. Without
        labels nothing is scored. Default: generated images.
    overrides:
        ``section.key=value`` changes to the demo recipe.

    Returns
    -------
    The report's path.

    Raises
    ------
    UserError
        Before the training, if the images are too few, make no task or are not those that ``out``
        was begun with.
    """
    out = writable_folder(out)
    target = "diagnosis" if data is None else None
    manifest = out / "manifest.parquet"
    taxonomy = out / "taxonomy"
    run = out / "run"
    if (run / "config.yaml").exists():
        _check_begun(out, data)
    else:
        images = _generate(out / "images") if data is None else _import(out, Path(data))
        derive_tasks(images, target)
        images.write(manifest)
        write_text(out / _BEGUN, _called(data))
        if images.labelled.any():
            build_taxonomy([manifest], text_encoder="char-ngrams").write(taxonomy)
    labels = taxonomy if Manifest.read(manifest).labelled.any() else None
    if not (run / "encoder.safetensors").exists():
        pretrain([manifest], run, labels, "demo", overrides, resume=True)
    encoders = [f"before={run / START_FILE}", f"after={run}"]
    results = out / "results"
    evaluate(encoders, [manifest], results, target=target, cache=out / "features")
    page = report(results, out / "report.html")
    console.print(f"Report: {page.resolve()}", style="bold", soft_wrap=True)
    return page


def _called(data: str | Path | None) -> str:
    return "generated images" if data is None else str(Path(data).resolve())


def _check_begun(out: Path, data: str | Path | None) -> None:
    """Refuse a folder that holds the demo of other images, lest its report be taken for theirs."""
    begun_with = (out / _BEGUN).read_text(encoding="utf-8")
    if begun_with != _called(data):
        raise UserError(
            f"'{out}' holds the demo of other images: {begun_with}.",
            "Choose another --out, or remove the folder.",
        )


def _generate(folder: Path) -> Manifest:
    """Draw images and divide them in halves, patients and lesions undivided."""
    console.print(f"Drawing {_GENERATED_IMAGES:,} images (synthetic: not for science).")
    images = generate(
        folder, _GENERATED_IMAGES, _GENERATED_SIZE, seed=_SEED, labelled=_LABELLED_SHARE
    )
    return split(images, stratify="diagnosis", seed=_SEED)


def _import(out: Path, data: Path) -> Manifest:
    """Read own images, without those that cannot be decoded, and divide them where need be."""
    if data.is_dir():
        imported = import_source("folder", data)
        for finding in imported.findings:
            sentence = f"Note: {finding.problem}: {finding.detail}. {finding.remedy}"
            console.print(sentence, markup=False, soft_wrap=True)
        manifest = imported.manifest
    else:
        manifest = Manifest.read(data)
    checked = check(manifest, out / "manifest")
    if len(checked.unreadable):
        console.print(
            f"{len(checked.unreadable):,} images cannot be read and are left out: "
            f"{out / 'manifest.findings.csv'}",
            soft_wrap=True,
        )
    if {"train", "test"} <= set(checked.readable.column("split")):
        return checked.readable
    console.print("There is no split into train and test: the images are divided in halves.")
    return split(checked.readable, seed=_SEED)
