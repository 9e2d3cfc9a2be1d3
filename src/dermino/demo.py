"""``dermino demo``: the whole way, from images to a report, in minutes on a laptop."""

from __future__ import annotations

from pathlib import Path

from dermino.data.generate import generate
from dermino.data.manifest import Manifest
from dermino.data.source import import_source
from dermino.data.split import split
from dermino.evaluate.evaluate import evaluate
from dermino.files import writable_folder
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


def demo(out: str | Path = "demo", data: str | Path | None = None) -> Path:
    """Import or generate images, pretrain the demo recipe on half, evaluate on the other half.

    What an earlier, interrupted call left in ``out`` is used again.

    Parameters
    ----------
    out:
        Folder for everything the demo writes.
    data:
        A folder of images (sub-folders are classes) or a manifest. Default: generated images.

    Returns
    -------
    The report's path.
    """
    out = writable_folder(out)
    manifest = out / "manifest.parquet"
    if not manifest.exists():
        _prepare(out, data).write(manifest)
    labels = out / "taxonomy"
    labelled = bool(Manifest.read(manifest).labelled.any())
    if labelled and not (labels / "taxonomy.json").exists():
        build_taxonomy([manifest], text_encoder="char-ngrams").write(labels)
    run = out / "run"
    encoder = run / "encoder.safetensors"
    if not encoder.exists():
        pretrain([manifest], run, labels if labelled else None, "demo", resume=True)
    encoders = [f"before pretraining={run / START_FILE}", f"after pretraining={run}"]
    results = out / "results"
    target = "diagnosis" if data is None else None
    evaluate(encoders, [manifest], results, target=target, cache=out / "features")
    page = report(results, out / "report.html", runs=[run])
    console.print(f"[bold]Report: {page.resolve()}[/bold]", soft_wrap=True)
    return page


def _prepare(out: Path, data: str | Path | None) -> Manifest:
    """Return the demo's images, half of them for training, patients and lesions undivided."""
    if data is None:
        console.print(f"Drawing {_GENERATED_IMAGES:,} images (synthetic: not for science).")
        images = generate(
            out / "images",
            _GENERATED_IMAGES,
            _GENERATED_SIZE,
            seed=_SEED,
            labelled=_LABELLED_SHARE,
        )
        return split(images, stratify="diagnosis", seed=_SEED)
    path = Path(data)
    manifest = import_source("folder", path).manifest if path.is_dir() else Manifest.read(path)
    return manifest if any(manifest.column("split")) else split(manifest, seed=_SEED)
