"""``dermino embed`` and ``dermino evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dermino.cli.options import (
    BatchSize,
    Cache,
    Data,
    Device,
    ImageSize,
    Interval,
    Replicates,
    Stratified,
    Workers,
)

_ENCODER_HELP = (
    "A run folder, an encoder file (.safetensors, .pth), a name that dermino encoders lists, "
    "timm:NAME, hf:ID, open_clip:NAME/TAG, or random:NAME for untrained weights. NAME=FILE reads a "
    "file as that encoder; NAME=... in front of anything else chooses what results call it."
)


def embed(
    encoder: Annotated[str, typer.Option(help=_ENCODER_HELP)],
    data: Data,
    out: Annotated[Path, typer.Option(help="The Parquet file to write.")],
    image_size: ImageSize = None,
    device: Device = "auto",
    cache: Cache = None,
    batch_size: BatchSize = 64,
    workers: Workers = None,
) -> None:
    """Write one feature vector for each image, as Parquet.

    Columns: image, dataset, split, and feature, a list of D float32. Read it with
    pandas.read_parquet; numpy.stack(frame.feature) gives the (n, D) array. Features are kept in
    the cache: an image whose content an encoder has met is not computed again.

    Example: dermino embed --encoder runs/mine --data ham.parquet --out ham.features.parquet
    """
    from dermino.evaluate.embed import embed

    embed(
        encoder=encoder,
        data=data,
        out=out,
        image_size=image_size,
        device=device,
        cache=cache,
        batch_size=batch_size,
        workers=workers,
    )


def evaluate(
    encoder: Annotated[
        list[str] | None, typer.Option(help=f"{_ENCODER_HELP} Several may follow one another.")
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="Manifest, Parquet or CSV; several may follow one another."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The results folder to write or to continue.")
    ] = None,
    suite: Annotated[
        list[str] | None,
        typer.Option(
            help="paper: the twenty tasks of the paper; panderm: PanDerm's public ones; open: "
            "public images divided by lesion or patient. Tasks whose images are not in --data "
            "are listed with where to get them."
        ),
    ] = None,
    task_file: Annotated[
        list[Path] | None, typer.Option(help="YAML file with tasks of your own.")
    ] = None,
    list_tasks: Annotated[
        bool, typer.Option("--list-tasks", help="List the tasks of the suites and stop.")
    ] = False,
    export_splits: Annotated[
        Path | None,
        typer.Option(help="Write the tasks' train and test images as CSV to a folder and stop."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Tasks wanted, by name. Default: all that can be done."),
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="How to ask: retrieval, linear, ... ALIAS=NAME asks for one under another name, "
            "with other parameters. Default: what the task file says, else retrieval and linear."
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Column to predict, such as malignant or skin_type. Default: the labels, of "
            "images that have exactly one."
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            help="What is asked: classification, ordinal, multilabel, regression, segmentation, "
            "caption. Default: what the target suggests (mask: segmentation, caption: captions)."
        ),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Parameters of protocols: linear.epochs=10 retrieval.k=20."),
    ] = None,
    analysis: Annotated[
        list[str] | None,
        typer.Option(help="Second looks at the predictions, such as fairness."),
    ] = None,
    audit: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder of dermino data audit: test images found to be the same picture as one "
            "of pretraining count as seen. RUN/audit is read without being named."
        ),
    ] = None,
    image_size: ImageSize = None,
    replicates: Replicates = 1000,
    interval: Interval = "percentile",
    stratified: Stratified = False,
    statistics: Annotated[
        str,
        typer.Option(
            help="standard, or paper: mean plus or minus variance of the replicates, authors: "
            "standard deviation, as in their figures; only to compare with the paper, neither is "
            "a 95 % interval."
        ),
    ] = "standard",
    seed: Annotated[int, typer.Option(min=0, help="Seed of protocols and bootstrap.")] = 0,
    device: Annotated[
        list[str] | None,
        typer.Option(help="auto (all GPUs, or the CPU), cpu, cuda:0 cuda:1; several share work."),
    ] = None,
    cache: Cache = None,
    batch_size: BatchSize = 64,
    workers: Workers = None,
) -> None:
    """Measure encoders on tasks by probes, fine-tuning and more, with 95 % intervals.

    Every dataset of the manifests is a task; its split column says what is learnt from and what
    is tested (make one with dermino data split). Of a dataset without any label the neighbours are
    found and nothing is scored. Writes results.csv, evaluation.json and the predictions of every
    test image. Run it again to continue after an interruption or to add encoders: what is there
    already is not done again.

    Example: dermino evaluate --encoder runs/mine random:vit_small_patch14_dinov2
    --data ham.parquet pad.parquet --out results
    """
    from dermino.errors import UserError
    from dermino.evaluate import evaluate as evaluation
    from dermino.evaluate.suite import list_tasks as list_suites
    from dermino.evaluate.suite import read_suite, suite_names

    suites = [*(suite or ()), *(task_file or ())]
    if list_tasks:
        chosen = [read_suite(name) for name in suites or suite_names()]
        typer.echo(list_suites(chosen).to_string(index=False))
        return
    if export_splits is not None:
        for path in evaluation.export_splits(
            data or (), export_splits, task, target=target, kind=kind, suites=suites
        ):
            typer.echo(path)
        return
    if out is None:
        raise UserError("No results folder was given.", "Name one with --out.")
    evaluation.evaluate(
        encoders=encoder or (),
        data=data or (),
        out=out,
        tasks=task,
        protocols=protocol,
        target=target,
        kind=kind,
        suites=suites,
        settings=settings or (),
        analyses=analysis or (),
        audits=audit or (),
        image_size=image_size,
        replicates=replicates,
        interval=interval,
        stratified=stratified,
        statistics=statistics,
        seed=seed,
        device=device or "auto",
        cache=cache,
        batch_size=batch_size,
        workers=workers,
    )
