"""Options that several commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[
    list[Path],
    typer.Option("--data", help="Manifest, Parquet or CSV; several may follow one another."),
]
ImageSize = Annotated[
    int | None,
    typer.Option(min=1, help="Side of the input in pixels. Default: the encoder's own."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
Cache = Annotated[
    Path | None,
    typer.Option(help="Folder that keeps features. Default: DERMINO_CACHE or the user's cache."),
]
BatchSize = Annotated[int, typer.Option(min=1, help="Images in a forward pass.")]
Workers = Annotated[
    int | None,
    typer.Option(min=0, help="Processes that decode images. Default: one a core."),
]
Replicates = Annotated[int, typer.Option(min=1, help="Bootstrap replicates.")]
Interval = Annotated[
    str, typer.Option(help="percentile, or bca: corrected for bias and skewness, slower.")
]
Stratified = Annotated[
    bool, typer.Option("--stratified", help="Every class keeps its size in each replicate.")
]
