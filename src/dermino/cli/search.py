"""``dermino search``: which images of an archive look like this one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dermino.cli.options import BatchSize, Cache, Data, Device, ImageSize, Workers

app = typer.Typer(
    no_args_is_help=True, help="Find the images of an archive that look like a picture."
)


@app.command()
def build(
    encoder: Annotated[
        str,
        typer.Option(help="A run folder, an encoder file, timm:NAME, ... as for dermino evaluate."),
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder to write the index to.")],
    image_size: ImageSize = None,
    target_recall: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Share of the true ten nearest to find in archives of more than 50,000 images; "
            "what is reached is measured and stated.",
        ),
    ] = 0.95,
    exact: Annotated[
        bool, typer.Option("--exact", help="Compare every image, however large the archive.")
    ] = False,
    device: Device = "auto",
    cache: Cache = None,
    batch_size: BatchSize = 64,
    workers: Workers = None,
) -> None:
    """Make the images of manifests searchable.

    Features come from the cache where they are there. Up to 50,000 images every one is compared
    with a query; larger archives get an index whose recall is measured and written to index.json.

    Example: dermino search build --encoder runs/mine --data ham.parquet --out archive
    """
    from dermino.search.archive import build_index

    build_index(
        encoder=encoder,
        data=data,
        out=out,
        image_size=image_size,
        target_recall=target_recall,
        exact=exact,
        device=device,
        cache=cache,
        batch_size=batch_size,
        workers=workers,
    )


@app.command()
def query(
    index: Annotated[Path, typer.Argument(help="Folder that dermino search build wrote.")],
    images: Annotated[list[Path], typer.Argument(help="Pictures to find similar images of.")],
    k: Annotated[int, typer.Option("--k", min=1, help="Images for each picture.")] = 10,
    out: Annotated[Path | None, typer.Option(help="Also write the results as CSV.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Also write a page with small copies of the pictures.")
    ] = None,
    device: Device = "auto",
    cache: Cache = None,
) -> None:
    """List the images most like each picture: rank, cosine similarity, labels, path.

    Example: dermino search query archive lesion.jpg --k 5 --html similar.html
    """
    from dermino.search.archive import query_index

    found = query_index(
        index=index, images=images, k=k, out=out, html=html, device=device, cache=cache
    )
    for name, rows in found.groupby("query", sort=False):
        typer.echo(f"{name}")
        for row in rows.to_dict("records"):
            labels = ", ".join(row["labels"]) or "no label"
            typer.echo(f"{row['rank']:5d}  {row['similarity']:.3f}  {labels}  {row['path']}")
