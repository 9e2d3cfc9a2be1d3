"""``dermino ablate``: train the rows of one of the paper's ablation tables and measure them."""

from __future__ import annotations

import os
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from dermino.ablation.layout import (
    RowResult,
    print_table,
    remarks,
    table_frame,
    write_table,
)
from dermino.ablation.plan import AblationPlan, plan_ablation
from dermino.ablation.row_run import RowRun
from dermino.config import save_config
from dermino.errors import UserError
from dermino.files import writable_folder, write_text
from dermino.progress import console


def ablate(
    table: str,
    data: Sequence[str | Path],
    out: str | Path,
    labels: str | Path | None = None,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    evaluate_on: Sequence[str | Path] | None = None,
    rows: Sequence[str] | None = None,
    cache: str | Path | None = None,
) -> pd.DataFrame:
    """Train the rows of an ablation table with equal budget, evaluate them, and print the table.

    A row that fails is told of in the table and does not stop the others. Run again to continue:
    finished rows are kept, begun ones go on from their newest checkpoint.

    Parameters
    ----------
    table:
        ``losses``, ``methods`` or ``sources``: the paper's Extended Data Tables 1, 2 and 3.
    data:
        Manifests to train on; test rows are left out. For ``sources`` their order is that of the
        rows, each of which adds one.
    out:
        Folder to write: ``table.csv``, ``table.md``, ``recipes/``, ``runs/``, ``results/``.
    labels:
        A taxonomy built by ``dermino labels build``, for the rows with the knowledge term.
    recipe:
        Recipe that sets backbone and budget. Default: the paper's.
    overrides:
        ``section.key=value`` changes to the recipe of every row.
    evaluate_on:
        Manifests to evaluate on. Default: those of ``data`` that have a train and a test split.
    rows:
        Names of the rows to train now. Default: all.
    cache:
        Folder of the feature cache. Default: that of the user.

    Returns
    -------
    pd.DataFrame
        The table, as ``table.csv`` has it.

    Raises
    ------
    UserError
        Before the first step: for anything wrong with the arguments, test images among those to
        train on, or an ``out`` that holds rows of another recipe or of other data.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise UserError(
            "dermino ablate trains one row after the other in one process.",
            "Train rows with torchrun by the recipes it writes, then run it again: see "
            "docs/ablation.md.",
        )
    out = writable_folder(out)
    plan = plan_ablation(table, data, out, labels, recipe, overrides, evaluate_on, rows, cache)
    for run in plan.runs.values():
        save_config(run.config, run.recipe)
    plan.show()
    results = {
        row.name: RowResult("not trained" if row.name in plan.runs else "not installed")
        for row in plan.table.rows
    }
    frame = _write(out, plan, results)
    for name, run in plan.runs.items():
        was_finished = run.finished
        if not was_finished and name not in plan.chosen:
            continue
        results[name] = _carry_out(run, plan, out / "errors" / f"{name}.txt")
        frame = _write(out, plan, results)
        if not was_finished:
            plan.show_time_left()
    print_table(plan.table, frame, remarks(plan.table, results, plan.evaluation.tasks))
    console.print(f"Table: {out / 'table.md'}", markup=False, soft_wrap=True)
    return frame


def _carry_out(run: RowRun, plan: AblationPlan, log: Path) -> RowResult:
    """Train and evaluate a row; an error becomes its result, with the traceback in ``log``."""
    console.print(f"Row '{run.row.name}'", style="bold")
    try:
        run.train()
        scores = plan.evaluation.scores(run.row.name, run.folder)
    except Exception as error:  # Days of other rows must not be lost to whatever goes wrong here.
        write_text(log, traceback.format_exc())
        reason = " ".join(str(error).split()) or type(error).__name__
        console.print(f"Failed: {reason} ({log})", style="red", markup=False, soft_wrap=True)
        return RowResult("failed", reason=reason)
    log.unlink(missing_ok=True)
    return RowResult("finished", scores)


def _write(out: Path, plan: AblationPlan, results: Mapping[str, RowResult]) -> pd.DataFrame:
    frame = table_frame(plan.table, results)
    write_table(out, plan.table, frame, remarks(plan.table, results, plan.evaluation.tasks))
    return frame
