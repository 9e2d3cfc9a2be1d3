"""``dermino data list`` and ``template``: which datasets there are and how they are had."""

from __future__ import annotations

import json
from collections import defaultdict
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

    tasks = _tasks()
    found = describe_sources() if source is None else [describe_source(source)]
    found = [{**about, "tasks": tasks.get(about["name"], {})} for about in found]
    if as_json:
        shown = found if source is None else found[0]
        typer.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    elif source is None:
        for about in found:
            _print_lines(about["name"], _lines(about))
        typer.echo("\nAll about one of them, and its options: dermino data list SOURCE")
    else:
        about = found[0]
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


def _tasks() -> dict[str, dict[str, list[str]]]:
    """Return the tasks that the shipped suites ask of each dataset."""
    from dermino.evaluate.suite import read_suite, suite_names

    tasks: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in suite_names():
        for task in read_suite(name).suite.tasks:
            tasks[task.dataset][name].append(task.name)
    return tasks


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
    """Say what a source is for: DermINO's pretraining, tasks of the suites, else its kinds."""
    uses = [f"DermINO's pretraining: {about['pretraining']}"] if about["pretraining"] else []
    uses += [f"suite {suite}: {', '.join(names)}" for suite, names in about["tasks"].items()]
    return uses or [about["task"] or ", ".join(about["used_for"])]


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
