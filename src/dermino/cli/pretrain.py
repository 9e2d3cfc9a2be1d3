"""``dermino pretrain``: turn manifests into an encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EPILOG = """
**Examples**

`dermino pretrain --data archive.parquet public.parquet --labels taxonomy --out runs/first`

`dermino pretrain --data archive.parquet --recipe dermino-vits14 --set batch_size_per_device=64
model.init=dinov2_vits14_pretrain.pth --out runs/small`

`dermino pretrain --data archive.parquet --method mae --out runs/mae`

`torchrun --nproc_per_node 8 -m dermino pretrain --data archive.parquet --out runs/eight-gpus`
"""


def pretrain(
    data: Annotated[
        list[Path], typer.Option(help="Manifests (.parquet or .csv), several side by side.")
    ],
    out: Annotated[Path, typer.Option(help="Run folder to write.")],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Taxonomy of `dermino labels build`, or public: the shipped one of public "
            "datasets. Without it no label is used."
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="dermino, dinov2, mae, mocov3, swav or panderm. Without --recipe its own recipe "
            "is taken. Default: what the recipe says."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="dermino-vitb14, dermino-vits14, mae-vitb16, mocov3-vitb16, swav-vitb16, "
            "panderm-vitb16, demo, or a YAML file. Default: the method's own."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the recipe: section.key=value, several side by side."),
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="Train on these splits only. Default: every row that is not test."),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue from the newest checkpoint in --out; start where it holds none.",
        ),
    ] = False,
) -> None:
    """Pretrain an encoder on images with and without labels.

    Writes a run folder: config.yaml, plan.json, metrics.jsonl, checkpoints, seen.parquet,
    start.safetensors (before the first step), encoder.safetensors (timm loads it) and summary.md.

    SIGTERM (preemption) and Ctrl-C finish the step and write a checkpoint; the exit code is 143 or
    130, and --resume goes on with the next step. A second Ctrl-C stops at once.
    """
    from dermino.pretrain.pretrain import pretrain as run

    run(data, out, labels, recipe, set_ or (), split, resume, method)
