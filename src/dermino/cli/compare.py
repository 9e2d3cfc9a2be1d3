"""``dermino compare``: which encoders of a results folder differ."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dermino.cli.options import Interval, Replicates, Stratified


def compare(
    results: Annotated[
        Path, typer.Argument(help="Folder that 'dermino evaluate' wrote.", show_default=False)
    ],
    baseline: Annotated[
        str | None,
        typer.Option(help="Compare every encoder with this one. Default: every pair."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="macro_auroc, accuracy, dice, ... Default: the first two that the task's "
            "reference reports. Each adds a family of tests."
        ),
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Tasks wanted. Default: all.")] = None,
    protocol: Annotated[
        list[str] | None, typer.Option(help="Protocols wanted. Default: all.")
    ] = None,
    family: Annotated[
        str,
        typer.Option(
            help="What Holm adjusts p values over: task (the pairs on one task by one protocol, "
            "for one metric and test) or all (those of all tasks and protocols together)."
        ),
    ] = "task",
    replicates: Replicates = 1000,
    permutations: Annotated[
        int,
        typer.Option(
            min=0,
            help="Of the permutation test, whose smallest p is one in this plus one; 0: none.",
        ),
    ] = 2000,
    interval: Interval = "percentile",
    stratified: Stratified = False,
    statistics: Annotated[
        str,
        typer.Option(
            help="standard, or paper: the paper's interval and t-test over replicates, only to "
            "compare with the paper; any difference becomes significant. authors: the same test, "
            "the interval of their code."
        ),
    ] = "standard",
    seed: Annotated[int, typer.Option(min=0, help="Of bootstrap and permutations.")] = 0,
) -> None:
    """Test the differences between evaluated encoders, image by image or patient by patient.

    Works on the predictions that the evaluation kept; nothing is trained. Each difference has a
    bootstrap interval and p values by paired bootstrap and permutation, for the AUROC of two
    classes also by DeLong, for accuracy also by McNemar, all adjusted by Holm. Writes
    comparisons.csv, comparisons.json, and ranks.csv (Friedman and Nemenyi over tasks).

    Example: dermino compare results --baseline start --metric macro_auroc accuracy
    """
    from dermino.evaluate.compare import compare as compare_encoders
    from dermino.evaluate.summary import print_comparisons

    rows = compare_encoders(
        results=results,
        baseline=baseline,
        metrics=metric,
        tasks=task,
        protocols=protocol,
        family=family,
        replicates=replicates,
        permutations=permutations,
        interval=interval,
        stratified=stratified,
        statistics=statistics,
        seed=seed,
    )
    print_comparisons(rows)
