"""``dermino data list`` and ``template``: which datasets there are and how they are had."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer


def list_sources(
    source: Annotated[str | None, typer.Argument(help="Show one source in full.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List the datasets that can be imported: what each needs, its licence and what it is for."""
    from dermino.data.catalogue import describe_source, describe_sources

    if as_json:
        found = describe_sources() if source is None else describe_source(source)
        typer.echo(json.dumps(found, indent=2, ensure_ascii=False))
    elif source is None:
        for about in describe_sources():
            _print_lines(about["name"], _lines(about))
        typer.echo("\nAll about one of them, and its options: dermino data list SOURCE")
    else:
        about = describe_source(source)
        classes = {"classes": ", ".join(about["classes"]), "cite": about["citation"]}
        _print_lines(about["title"], {**_lines(about), **classes})
        typer.echo(f"\n{about['options']}")


def template_data(
    name: Annotated[str, typer.Argument(help="A data set that is not published, such as mpl5.")],
    out: Annotated[Path, typer.Option(help="The table to write, .csv.")],
) -> None:
    """Write a table for the owner of an unpublished data set, and how to fill it in.

    dermino data template mpl5 --out mpl5.csv
    """
    from dermino.data.template import write_template
    from dermino.files import writable_file

    instructions = write_template(name, writable_file(out))
    typer.echo(instructions.read_text(encoding="utf-8"))
    typer.echo(f"Wrote {out} and {instructions}")


def _lines(about: Mapping[str, Any]) -> dict[str, str]:
    """Return what is shown of a source: a word and what it has of it."""
    fetch = f"dermino data download {about['name']}" if about["download"] else ""
    had = (about["access"], about["url"], fetch)
    return {
        "images": f"{about['images']:,}" if about["images"] else "",
        "for": "; ".join(_uses(about)),
        "with": ", ".join(about["carries"]),
        "needs": about["layout"],
        "to be had": "; ".join(part for part in had if part),
        "licence": about["licence"],
    }


def _uses(about: Mapping[str, Any]) -> list[str]:
    """Say in which part of which paper a source is used; what it can be used for, if in none."""
    uses = [f"DermINO's pretraining: {about['pretraining']}"] if about["pretraining"] else []
    uses += [f"DermINO's tasks: {', '.join(about['dermino'])}"] if about["dermino"] else []
    uses += [f"PanDerm's tasks: {', '.join(about['panderm'])}"] if about["panderm"] else []
    return uses or [", ".join(about["used_for"])]


def _print_lines(title: str, lines: Mapping[str, str]) -> None:
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(min_width=9, style="dim")
    grid.add_column(overflow="fold")
    for name, text in lines.items():
        if text:
            grid.add_row(name, Text(text))
    console = Console(highlight=False)
    console.print(Text(f"\n{title}", style="bold"))
    console.print(Padding(grid, (0, 0, 0, 2), expand=False))
