"""``dermino report``: from a folder of results to one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    results: Annotated[
        Path, typer.Argument(help="Folder that 'dermino evaluate' wrote.", show_default=False)
    ],
    out: Annotated[Path, typer.Option("--out", help="The HTML file.")] = Path("report.html"),
    title: Annotated[
        str | None,
        typer.Option("--title", help="Heading of the page. Default: the encoders and datasets."),
    ] = None,
    runs: Annotated[
        list[Path] | None,
        typer.Option(
            "--runs",
            help="Pretraining run folders to show besides those of the evaluated encoders.",
        ),
    ] = None,
    images: Annotated[
        bool,
        typer.Option(
            "--images/--no-images",
            help="Show single test images: thumbnails, captions, outlines, hardest cases.",
        ),
    ] = True,
    maps: Annotated[
        bool,
        typer.Option(
            "--maps",
            help="Draw t-SNE and UMAP maps of label and image embeddings, to zoom into; adds a "
            "script to the page.",
        ),
    ] = False,
    cache: Annotated[
        Path | None,
        typer.Option(help="Feature cache of the evaluation, for --maps. Default: the user's."),
    ] = None,
    tables: Annotated[
        Path | None,
        typer.Option(help="Folder for the numbers of every figure, as CSV and LaTeX (booktabs)."),
    ] = None,
    model_cards: Annotated[
        Path | None,
        typer.Option(
            "--model-cards",
            help="Folder for a model card of each encoder (Markdown for the Hugging Face hub), and "
            "a page with all of them.",
        ),
    ] = None,
) -> None:
    """Write one HTML page with everything an evaluation found.

    Results with intervals, ROC curves, confusion matrices, reliability, subgroups, hardest cases,
    outlines, captions, images with their nearest neighbours, pretraining curves and what each
    encoder saw. Run dermino compare first for significance and ranks. The page is one file and
    asks nothing of the network; it contains thumbnails of your images, so share it as you would
    share them, or leave them out with --no-images.

    Example: dermino report results --out report.html
    """
    from dermino.report import report as write_report

    page = write_report(
        results,
        out,
        title=title,
        runs=runs or (),
        images=images,
        maps=maps,
        cache=cache,
        tables=tables,
        model_cards=model_cards,
    )
    typer.echo(page)
