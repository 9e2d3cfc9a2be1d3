"""``dermino demo``: everything once, small."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo writes.")] = Path(
        "demo"
    ),
    data: Annotated[
        Path | None,
        typer.Option(
            help="Your own images: a folder (sub-folders are classes) or a manifest. "
            "Default: generated images."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the recipe: section.key=value, several side by side."),
    ] = None,
) -> None:
    """Go the whole way in minutes, without a GPU or a network.

    Images, taxonomy, pretraining with the demo recipe, evaluation before and after it, and one
    HTML report. Shows what the software does; nothing about model quality can be concluded from it.
    """
    from dermino.demo import demo as run

    run(out, data, set_ or ())
