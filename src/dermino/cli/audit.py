"""``dermino data audit``: which images are the same, and what that spoils."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from dermino.cli.options import BatchSize, Device, Workers

FOUND = 3


def audit_data(
    manifest: Annotated[list[Path], typer.Argument(help="Manifests to examine.")],
    out: Annotated[Path, typer.Option(help="Folder for the pairs, the summary and the page.")],
    against: Annotated[
        list[Path] | None,
        typer.Option(
            help="Manifests or run folders: what an encoder was, or is to be, pretrained on."
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            help="Compare features too: a run folder, a weights file, timm:NAME. Finds cropped "
            "copies, which the perceptual hash misses. Needs dermino[search]."
        ),
    ] = None,
    pictures: Annotated[
        bool,
        typer.Option(
            "--pictures/--no-pictures", help="Look at pictures, or compare names and ids only."
        ),
    ] = True,
    false_positive_rate: Annotated[
        float | None,
        typer.Option(
            help="Share of the pairs of different pictures that may be taken for the same. "
            "Default: one false pair for a thousand images."
        ),
    ] = None,
    fail_on: Annotated[
        Literal["nothing", "leaks", "duplicates"],
        typer.Option(help="Exit with 3 if such are found."),
    ] = "nothing",
    images: Annotated[
        bool, typer.Option("--images/--no-images", help="Show pictures on the page.")
    ] = True,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Side of the encoder's input in pixels.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what thresholds are made from.")] = 0,
    device: Device = "auto",
    cache: Annotated[
        Path | None, typer.Option(help="Folder that keeps hashes and features.")
    ] = None,
    batch_size: BatchSize = 64,
    workers: Workers = None,
) -> None:
    """Find images that are the same, within and across manifests, and test images seen before.

    By ids and names, by content, by perceptual hash (mirrored and turned too) and by an encoder's
    features; and patients and lesions in several splits. OUT/audit.html shows the pairs side by
    side. Nothing is removed. With --out RUN/audit, dermino evaluate takes it into account.

    dermino data audit ham.parquet isic2017.parquet --out audit

    dermino data audit test.parquet --against runs/mine --out runs/mine/audit --fail-on leaks
    """
    from dermino.audit import audit
    from dermino.report.duplicate_pairs import audit_page

    found = audit(
        manifest,
        out,
        against=against or (),
        encoder=encoder,
        pictures=pictures,
        false_positive_rate=false_positive_rate,
        image_size=image_size,
        seed=seed,
        device=device,
        cache=cache,
        batch_size=batch_size,
        workers=workers,
    )
    page = audit_page(out, images=images)
    for problem, count in {**found.summary["pairs"], **found.summary["groups"]}.items():
        if count:
            typer.echo(f"{count:>9,}  {problem}")
    if not len(found.pairs) and not len(found.groups):
        typer.echo("No image, lesion or patient was found twice.")
    typer.echo(f"Wrote {page}")
    if found.leaks and fail_on != "nothing":
        raise typer.Exit(FOUND)
    if len(found.pairs) and fail_on == "duplicates":
        raise typer.Exit(FOUND)
