"""Ask every encoder every task by every protocol, and write down what comes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import pandas as pd
import torch

from dermino.config import load_config
from dermino.data.manifest import read_manifests
from dermino.errors import UserError
from dermino.evaluate.analysis import ANALYSES, Analysis, Answered
from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.candidate import load_candidates
from dermino.evaluate.derive import derive_tasks
from dermino.evaluate.execution import Setup, execute
from dermino.evaluate.feature_cache import FeatureCache
from dermino.evaluate.features import check_files, resolve_devices
from dermino.evaluate.plan import TaskPlan, describe_plan, plan_records
from dermino.evaluate.predictions import Cell
from dermino.evaluate.protocol import (
    PROTOCOLS,
    EvaluationProtocol,
    configure_protocols,
    protocol_alias,
)
from dermino.evaluate.results import ResultsFolder
from dermino.evaluate.suite import Prepared, prepare_tasks, read_suite
from dermino.evaluate.summary import print_results
from dermino.evaluate.task import UNLABELLED, Task, TaskKind
from dermino.evaluate.task_split import write_split_list
from dermino.files import writable_folder
from dermino.progress import console

DEFAULT_PROTOCOLS: Mapping[TaskKind, tuple[str, ...]] = {
    "classification": ("retrieval", "linear"),
    "ordinal": ("retrieval", "linear"),
    "unlabelled": ("retrieval", "linear"),
    "multilabel": ("linear",),
    "regression": ("linear",),
    "segmentation": ("segmentation-linear",),
    "caption": ("caption",),
}


def evaluate(
    encoders: Sequence[str],
    data: Sequence[str | Path],
    out: str | Path,
    tasks: Sequence[str] | None = None,
    protocols: Sequence[str] | None = None,
    target: str | None = None,
    kind: str | None = None,
    suites: Sequence[str | Path] = (),
    settings: Sequence[str] = (),
    analyses: Sequence[str] = (),
    audits: Sequence[str | Path] = (),
    image_size: int | None = None,
    replicates: int = 1000,
    interval: str = "percentile",
    stratified: bool = False,
    statistics: str = "standard",
    seed: int = 0,
    device: str | Sequence[str] = "auto",
    cache: str | Path | None = None,
    batch_size: int = 64,
    workers: int | None = None,
) -> pd.DataFrame:
    """Measure encoders on the datasets of one or several manifests.

    Everything that can be wrong with the arguments is found before the first image is decoded.
    What an earlier, interrupted call left in ``out`` is not done again.

    Parameters
    ----------
    encoders:
        Names as :func:`dermino.models.load.load_encoder` takes them.
    data:
        Manifests with a split; each dataset in them is a task.
    out:
        The results folder: ``results.csv``, ``evaluation.json``, ``predictions/``.
    tasks:
        Names of the tasks wanted. Default: all that can be done.
    protocols:
        Names of :data:`dermino.evaluate.protocol.PROTOCOLS`; ``ALIAS=NAME`` asks for one under
        another name. Default: those of the suite, else retrieval and linear, or what a
        segmentation or caption task is asked by.
    target:
        Column to predict. Default: the labels, of images that have exactly one. Where no image of
        a dataset has any, neighbours are found and nothing is scored.
    kind:
        What is asked: classification, ordinal, multilabel, regression, segmentation or caption.
        Default: what the target suggests.
    suites:
        Names of shipped suites (``paper``, ``panderm``, ``open``) or task files; their tasks
        take the place of those of the manifests.
    settings:
        Parameters of protocols and analyses, as ``linear.epochs=10``.
    analyses:
        Names of :data:`dermino.evaluate.analysis.ANALYSES`: second looks at the predictions.
    audits:
        Folders of ``dermino data audit``: test images that are the same picture as one that an
        encoder was pretrained on count as seen. One in a run's folder ``audit`` is always read.
    image_size:
        Side of the encoders' input in pixels, where it should differ from their own.
    replicates:
        Bootstrap replicates.
    interval, stratified, statistics:
        As for :meth:`dermino.evaluate.bootstrap.Bootstrap.configured`.
    seed:
        Seed of protocols and bootstrap.
    device:
        ``auto`` (all GPUs, or the CPU), ``cpu``, ``cuda``, ``cuda:1``, ...; several share the
        work, one process each.
    cache:
        Folder of the feature cache. Default: that of the user.
    batch_size:
        Images in a forward pass.
    workers:
        Processes that decode images. Default: as many as there are cores.

    Returns
    -------
    pd.DataFrame
        The rows of ``results.csv`` that belong to this call.

    Raises
    ------
    UserError
        For anything that the user must put right.
    """
    bootstrap = Bootstrap.configured(replicates, interval, stratified, statistics, seed)
    folder = ResultsFolder(out)
    feature_cache = FeatureCache(cache)
    devices = resolve_devices([device] if isinstance(device, str) else device)
    prepared = _prepare(data, target, tasks, kind, suites)
    wanted = {task.name: protocols or prepared.protocols[task.name] for task in prepared.tasks}
    by_task = _protocols_by_task(wanted, settings, analyses)
    looks = _configure_analyses(analyses, settings)
    _check_answerable(prepared.tasks, by_task)
    for task in prepared.tasks:
        check_files(task.files())
    alone = len(devices) == 1
    first = devices[0] if alone else torch.device("cpu")
    candidates = load_candidates(encoders, image_size, first, audits)
    _say_what_is_left_out(prepared, by_task)
    plan = [
        TaskPlan.of(
            task,
            candidates,
            {name: own for name, own in by_task[task.name].items() if own.can_answer(task)},
            bootstrap,
            feature_cache,
        )
        for task in prepared.tasks
    ]
    folder.describe(describe_plan(plan), plan_records(plan, candidates, looks))
    for part in plan:
        write_split_list(part.task, folder.folder / "splits" / f"{part.task.name}.csv")
        for note in part.task.notes:
            console.print(f"Task '{part.task.name}': {note}.", markup=False, soft_wrap=True)
    setup = Setup(
        tuple(encoders), image_size, folder.folder, feature_cache.folder, batch_size, workers
    )
    failed = execute(plan, folder, setup, devices, candidates)
    for part, look in product(plan, looks.values()):
        if part.task.kind in look.kinds:
            for cell in part.cells:
                if cell in failed:
                    continue
                predictions = folder.predictions.read(cell, part.task)
                answered = Answered(part.task, *predictions, part.bootstrap)
                folder.add_rows(cell, look.rows(answered))
    done = [cell for part in plan for cell in part.cells if cell not in failed]
    if not done:
        raise next(iter(failed.values()))
    table = folder.rows(done)
    print_results(table)
    console.print(f"Results: {folder.folder}", markup=False, soft_wrap=True)
    if failed:
        raise _not_done(failed)
    return table


def export_splits(
    data: Sequence[str | Path],
    out: str | Path,
    tasks: Sequence[str] | None = None,
    target: str | None = None,
    kind: str | None = None,
    suites: Sequence[str | Path] = (),
) -> list[Path]:
    """Write which images each task learns from and is judged by, without evaluating anything.

    Parameters
    ----------
    data, tasks, target, kind, suites:
        As for :func:`evaluate`.
    out:
        Folder for one CSV a task, with columns ``image`` and ``split``. A task file takes it with
        ``split: {rule: list, file: NAME.csv}``.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    UserError
        If no task can be done.
    """
    folder = writable_folder(out)
    prepared = _prepare(data, target, tasks, kind, suites)
    _say_what_is_left_out(prepared, {})
    paths = [folder / f"{task.name}.csv" for task in prepared.tasks]
    for task, path in zip(prepared.tasks, paths, strict=True):
        write_split_list(task, path)
    return paths


def _prepare(
    data: Sequence[str | Path],
    target: str | None,
    tasks: Sequence[str] | None,
    kind: str | None,
    suites: Sequence[str | Path],
) -> Prepared:
    """Make the tasks of the suites, or of the manifests' own datasets."""
    task_files = [read_suite(suite) for suite in suites]
    if task_files and (target or kind):
        raise UserError("--target and --kind do not go with a suite.", "Say it in a task file.")
    if not data:
        raise UserError("No manifest was given.", "Name one with --data.")
    manifest = read_manifests(data)
    if task_files:
        return prepare_tasks(task_files, manifest, tasks)
    found, impossible = derive_tasks(manifest, target, tasks, kind)
    return Prepared(found, {task.name: DEFAULT_PROTOCOLS[task.kind] for task in found}, impossible)


def _protocols_by_task(
    wanted: Mapping[str, Sequence[str]], settings: Sequence[str], analyses: Sequence[str]
) -> dict[str, dict[str, EvaluationProtocol]]:
    """Build each task's protocols; a setting that belongs to none of them is an error."""
    own = [setting for setting in settings if _owner(setting) not in analyses]
    configure_protocols(dict.fromkeys(spec for specs in wanted.values() for spec in specs), own)
    result = {}
    for task, specs in wanted.items():
        names = {protocol_alias(spec) for spec in specs}
        result[task] = configure_protocols(specs, [s for s in own if _owner(s) in names])
    return result


def _configure_analyses(analyses: Sequence[str], settings: Sequence[str]) -> dict[str, Analysis]:
    return {
        name: load_config(
            ANALYSES.get(name), None, [s.partition(".")[2] for s in settings if _owner(s) == name]
        )
        for name in dict.fromkeys(analyses)
    }


def _owner(setting: str) -> str:
    return setting.partition(".")[0]


def _say_what_is_left_out(
    prepared: Prepared, by_task: Mapping[str, Mapping[str, EvaluationProtocol]]
) -> None:
    for name, reason in prepared.missing.items():
        console.print(f"Task '{name}' is skipped: {reason}", markup=False, soft_wrap=True)
    for task in prepared.tasks:
        for name, protocol in by_task.get(task.name, {}).items():
            if not protocol.can_answer(task):
                why = UNLABELLED if task.kind == "unlabelled" else f"it answers no {task.kind} task"
                reason = f"Protocol '{name}' is skipped for task '{task.name}': {why}."
                console.print(reason, markup=False, soft_wrap=True)


def _not_done(failed: Mapping[Cell, UserError]) -> UserError:
    """Tell what could not be done, each reason once."""
    cells: dict[str, list[str]] = {}
    for cell, error in failed.items():
        cells.setdefault(str(error), []).append(f"{cell.encoder}, {cell.task}, {cell.protocol}")
    reasons = [f"{'; '.join(names)}: {reason}" for reason, names in cells.items()]
    message = f"{len(failed)} could not be done; the other results are kept."
    return UserError(message, "\n".join([*reasons, "The same command does only what is missing."]))


def _check_answerable(
    tasks: Sequence[Task], by_task: Mapping[str, Mapping[str, EvaluationProtocol]]
) -> None:
    """Prove that something is left to do, and that protocols accept the tasks of their kinds."""
    answerable = [
        (task, protocol)
        for task in tasks
        for protocol in by_task[task.name].values()
        if protocol.can_answer(task)
    ]
    for task, protocol in answerable:
        protocol.check(task)
    if answerable:
        return
    first = tasks[0]
    names = ", ".join(by_task[first.name])
    if first.kind == "unlabelled":
        raise UserError(
            f"The images of {first.name} carry no labels, and {names} needs them.",
            "Use --protocol retrieval, or name a column of classes with --target.",
        )
    able = [name for name, protocol in PROTOCOLS if first.kind in protocol.kinds]
    raise UserError(
        f"None of {names} answers a {first.kind} task such as {first.name}.",
        f"Use --protocol {' or '.join(able)}." if able else "",
    )
