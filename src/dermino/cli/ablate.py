"""``dermino ablate``: the paper's ablation tables on own data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dermino.cli.options import Cache

EPILOG = """
**Examples**

`dermino ablate --table losses --data ham.parquet --labels taxonomy --recipe dermino-vits14
--set steps=5000 --out ablation/losses`

`dermino ablate --table losses --data ham.parquet --labels taxonomy --evaluate-on ham.parquet
skincap.parquet --protocol paper --set 'caption.language_model=models/biomistral'
segmentation-upernet.width=128 --out ablation/losses`

`dermino ablate --table methods --data archive.parquet ham.parquet --labels taxonomy
--out ablation/methods`

`dermino ablate --table sources --data public.parquet web.parquet own.parquet --labels taxonomy
--out ablation/sources`
"""


def ablate(
    table: Annotated[
        str,
        typer.Option(
            help="losses: which loss terms, how the prototypes start and whether they learn. "
            "methods: MAE, MoCo v3, SwAV, DINOv2, DermINO. sources: one manifest more in each row."
        ),
    ],
    data: Annotated[
        list[Path],
        typer.Option(help="Manifests to train on, several side by side; test rows are left out."),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write, or to continue.")],
    labels: Annotated[
        Path | None,
        typer.Option(help="Taxonomy of `dermino labels build`, for the knowledge term."),
    ] = None,
    recipe: Annotated[
        str,
        typer.Option(help="Sets backbone and budget: the name of a recipe, or a YAML file."),
    ] = "dermino-vitb14",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change the recipe of every row, section.key=value, or a parameter of a protocol, "
            "segmentation-upernet.width=128; several.",
        ),
    ] = None,
    evaluate_on: Annotated[
        list[Path] | None,
        typer.Option(
            help="Manifests to evaluate on. Default: those of --data with a train and test split."
        ),
    ] = None,
    row: Annotated[
        list[str] | None, typer.Option(help="Train these rows only. Default: all of the table.")
    ] = None,
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            help="What to measure, several: retrieval, linear, segmentation-linear (masks), "
            "segmentation-upernet (masks; slow), caption (captions and a language model; slow), or "
            "paper for all that the manifests allow. Default: the first three, where they can be."
        ),
    ] = None,
    cache: Cache = None,
) -> None:
    """Train the rows of an ablation table of the paper with equal budget, and compare them.

    All rows have the same backbone, starting weights, images seen and seed, and are asked the same
    tasks. Prints the table in the paper's layout and writes table.csv, table.md, a recipe and a run
    for each row, and the results. Run it again to continue or, with more protocols, for more
    columns: what is trained and measured is kept, and what failed is tried again. The exit code is
    1 if anything failed.
    """
    from dermino.ablation.ablate import ablate as run

    frame = run(table, data, out, labels, recipe, set_ or (), evaluate_on, row, cache, protocol)
    if "failed" in set(frame["status"]):
        raise typer.Exit(1)
