"""``dermino ablate``: train the rows of one of the paper's ablation tables and measure them."""

from __future__ import annotations

import os
import traceback
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from dermino.ablation.evaluation import Figures
from dermino.ablation.layout import (
    FilledTable,
    RowResult,
    print_table,
    table_frame,
    write_table,
)
from dermino.ablation.plan import AblationPlan, plan_ablation
from dermino.ablation.remarks import remarks
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
    protocols: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Train the rows of an ablation table with equal budget, evaluate them, and print the table.

    A row that fails, or one of its protocols, is told of in the table and does not stop the
    others. Run again to continue: finished rows and measured figures are kept, begun rows go on
    from their newest checkpoint. Run again with more protocols for more columns.

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
        ``section.key=value`` changes to the recipe of every row, and parameters of protocols, as
        ``segmentation-upernet.width=128``.
    evaluate_on:
        Manifests to evaluate on. Default: those of ``data`` that have a train and a test split.
    rows:
        Names of the rows to train now. Default: all.
    cache:
        Folder of the feature cache. Default: that of the user.
    protocols:
        What to measure: protocols that fill a column of the paper's tables, or ``paper`` for all
        that the manifests of ``evaluate_on`` allow. One asked for by its own name must be
        possible. Default: :data:`dermino.ablation.columns.DEFAULT_PROTOCOLS`, where possible.

    Returns
    -------
    pd.DataFrame
        The table, as ``table.csv`` has it.

    Raises
    ------
    UserError
        Before the first step: for anything wrong with the arguments, files or a language model
        that are missing, test images among those to train on, or an ``out`` that holds rows of
        another recipe or of other data.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise UserError(
            "dermino ablate trains one row after the other in one process.",
            "Train rows with torchrun by the recipes it writes, then run it again: see "
            "docs/ablation.md.",
        )
    out = writable_folder(out)
    plan = plan_ablation(
        table, data, out, labels, recipe, overrides, evaluate_on, rows, cache, protocols
    )
    for run in plan.runs.values():
        save_config(run.config, run.recipe)
    plan.show()
    results = {
        row.name: RowResult("not trained" if row.name in plan.runs else "not installed")
        for row in plan.table.rows
    }
    filled = FilledTable(plan.table, plan.evaluation.measurements, results)
    write_table(out, filled, remarks(filled))
    for name, run in plan.runs.items():
        was_finished = run.finished
        if not was_finished and name not in plan.chosen:
            continue
        results[name] = _carry_out(run, plan, out / "errors" / f"{name}.txt")
        write_table(out, filled, remarks(filled))
        if not was_finished:
            plan.show_time_left()
    print_table(filled, remarks(filled))
    console.print(f"Table: {out / 'table.md'}", markup=False, soft_wrap=True)
    return table_frame(filled)


def _carry_out(run: RowRun, plan: AblationPlan, log: Path) -> RowResult:
    """Train and measure a row; an error becomes its result, with the traceback in ``log``."""
    name = run.row.name
    console.print(f"Row '{name}'", style="bold")
    log.unlink(missing_ok=True)
    # Days of other rows and protocols must not be lost to whatever goes wrong in one of them.
    try:
        run.train()
    except Exception as error:
        return RowResult("failed", reason=_tell(error, log))
    figures: Figures = {}
    reasons = []
    for measurement in plan.evaluation.measured:
        try:
            figures |= plan.evaluation.measure(measurement, name, run.folder)
        except Exception as error:
            reasons.append(f"{measurement.group.title}: {_tell(error, log)}")
    return RowResult("failed" if reasons else "finished", figures, " ".join(reasons))


def _tell(error: Exception, log: Path) -> str:
    """Print an error and add its traceback to the log; return its message on one line."""
    earlier = log.read_text(encoding="utf-8") if log.is_file() else ""
    write_text(log, earlier + traceback.format_exc())
    reason = " ".join(str(error).split()) or type(error).__name__
    console.print(f"Failed: {reason} ({log})", style="red", markup=False, soft_wrap=True)
    return reason
