"""``dermino data``: from folders and tables to manifests."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="Import, check, split and generate images.")


@app.command("list")
def list_sources() -> None:
    """List the datasets that can be imported, what each needs and its licence."""
    from dermino.data.source import SOURCES

    for name, source in SOURCES:
        typer.echo(f"{name}: {source.layout}")
