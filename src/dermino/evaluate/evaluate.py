"""Ask every encoder every task by every protocol, and write down what comes out."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dermino.config import load_config
from dermino.data.manifest import read_manifests
from dermino.errors import UserError
from dermino.evaluate.analysis import ANALYSES, Analysis, Answered
from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.candidate import Candidate, load_candidates
from dermino.evaluate.derive import derive_tasks
from dermino.evaluate.feature_cache import FeatureCache
from dermino.evaluate.features import check_files, extract_many, resolve_device
from dermino.evaluate.leakage import Exposure
from dermino.evaluate.protocol import (
    PROTOCOLS,
    EvaluationProtocol,
    Trial,
    configure_protocols,
)
from dermino.evaluate.results import Cell, ResultsFolder
from dermino.evaluate.scoring import score
from dermino.evaluate.summary import print_results
from dermino.evaluate.task import UNLABELLED, Task
from dermino.progress import console

DEFAULT_PROTOCOLS = ("retrieval", "linear")


def evaluate(
    encoders: Sequence[str],
    data: Sequence[str | Path],
    out: str | Path,
    tasks: Sequence[str] | None = None,
    protocols: Sequence[str] | None = None,
    target: str | None = None,
    kind: str | None = None,
    settings: Sequence[str] = (),
    analyses: Sequence[str] = (),
    image_size: int | None = None,
    replicates: int = 1000,
    seed: int = 0,
    device: str = "auto",
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
        Names of the tasks wanted. Default: all.
    protocols:
        Names of :data:`dermino.evaluate.protocol.PROTOCOLS`; ``ALIAS=NAME`` asks for one under
        another name. Default: retrieval and linear.
    target:
        Column to predict. Default: the labels, of images that have exactly one. Where no image of
        a dataset has any, neighbours are found and nothing is scored.
    kind:
        What is asked: classification, ordinal, multilabel, regression, segmentation or caption.
        Default: what the target suggests.
    settings:
        Parameters of protocols and analyses, as ``linear.epochs=10``.
    analyses:
        Names of :data:`dermino.evaluate.analysis.ANALYSES`: second looks at the predictions.
    image_size:
        Side of the encoders' input in pixels, where it should differ from their own.
    replicates:
        Bootstrap replicates.
    seed:
        Seed of protocols and bootstrap.
    device:
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
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
    if replicates < 1:
        raise UserError(f"--replicates must be at least 1, not {replicates}.")
    if seed < 0:
        raise UserError(f"--seed must not be negative, but it is {seed}.")
    folder = ResultsFolder(out)
    feature_cache = FeatureCache(cache)
    where = resolve_device(device)
    asked, looks = _configure(protocols or DEFAULT_PROTOCOLS, analyses, settings)
    chosen, impossible = derive_tasks(read_manifests(data), target, tasks, kind)
    _check_answerable(chosen, asked)
    for task in chosen:
        check_files(task.files())
    candidates = load_candidates(encoders, image_size, where)
    for name, reason in impossible.items():
        console.print(f"Task '{name}' is skipped. {reason}", markup=False, soft_wrap=True)
    for task, name in product(chosen, asked):
        if not asked[name].can_answer(task):
            reason = f"Protocol '{name}' is skipped for task '{task.name}': {_why_not(task)}."
            console.print(reason, markup=False, soft_wrap=True)
    plan = [
        _Plan.of(task, candidates, asked, Bootstrap(replicates, seed=seed), feature_cache)
        for task in chosen
    ]
    folder.describe(_description(plan), _records(plan, candidates, asked, looks))
    for part in plan:
        for note in part.task.notes:
            console.print(f"Task '{part.task.name}': {note}.", markup=False, soft_wrap=True)
        todo = [cell for cell in part.cells if not folder.has(cell)]
        with_features = {cell.encoder for cell in todo if asked[cell.protocol].needs == "features"}
        needed = [candidate for candidate in candidates if candidate.name in with_features]
        extracted = extract_many(
            [candidate.encoder for candidate in needed],
            part.task.manifest.paths(),
            feature_cache,
            batch_size,
            workers,
            part.digests,
        )
        features = {c.name: values for c, values in zip(needed, extracted, strict=True)}
        by_name = {candidate.name: candidate.encoder for candidate in candidates}
        for cell in todo:
            trial = Trial(
                part.task,
                features.get(cell.encoder, np.empty((len(part.digests), 0), np.float32)),
                seed,
                where,
                by_name[cell.encoder],
                folder.work_path(cell),
                folder.files_path(cell),
                feature_cache,
                batch_size,
                workers,
            )
            outcome = asked[cell.protocol].run(trial)
            exposure = part.exposures[cell.encoder]
            folder.add(
                cell, part.task, outcome, score(outcome, part.task, part.bootstrap, exposure)
            )
        for cell, look in product(part.cells, looks.values()):
            if part.task.kind in look.kinds:
                answered = Answered(part.task, *folder.answers(cell, part.task), part.bootstrap)
                folder.add_rows(cell, look.rows(answered))
    table = folder.rows([cell for part in plan for cell in part.cells])
    print_results(table)
    console.print(f"Results: {folder.folder}", markup=False, soft_wrap=True)
    return table


@dataclass(frozen=True)
class _Plan:
    """One task and all that is to be asked of it."""

    task: Task
    digests: np.ndarray
    fingerprint: str
    bootstrap: Bootstrap
    exposures: Mapping[str, Exposure]
    cells: Sequence[Cell]

    @classmethod
    def of(
        cls,
        task: Task,
        candidates: Sequence[Candidate],
        protocols: Mapping[str, EvaluationProtocol],
        bootstrap: Bootstrap,
        cache: FeatureCache,
    ) -> _Plan:
        contents = cache.digests(task.files())
        digests = contents[: len(task.targets)]
        task, fingerprint = task.compared(digests), task.fingerprint(contents)
        cells = [
            Cell(
                candidate.name,
                task.name,
                name,
                run_id=_hash(
                    candidate.encoder.identity,
                    fingerprint,
                    name,
                    protocol.parameters,
                    asdict(bootstrap),
                ),
            )
            for candidate in candidates
            for name, protocol in protocols.items()
            if protocol.can_answer(task)
        ]
        exposures = {candidate.name: candidate.exposure(task) for candidate in candidates}
        return cls(task, digests, fingerprint, bootstrap, exposures, cells)


def _configure(
    protocols: Sequence[str], analyses: Sequence[str], settings: Sequence[str]
) -> tuple[dict[str, EvaluationProtocol], dict[str, Analysis]]:
    """Build protocols and analyses, each with the settings that begin with its name."""
    looks = {name: ANALYSES.get(name) for name in dict.fromkeys(analyses)}
    own = {name: [s for s in settings if s.startswith(f"{name}.")] for name in looks}
    others = [s for s in settings if s.partition(".")[0] not in looks]
    return configure_protocols(protocols, others), {
        name: load_config(look, None, [s.partition(".")[2] for s in own[name]])
        for name, look in looks.items()
    }


def _why_not(task: Task) -> str:
    return UNLABELLED if task.kind == "unlabelled" else f"it does not answer {task.kind} tasks"


def _check_answerable(tasks: Sequence[Task], protocols: Mapping[str, EvaluationProtocol]) -> None:
    """Prove that something is left to do, and that protocols accept the tasks of their kinds."""
    pairs = [
        (task, protocol)
        for task, protocol in product(tasks, protocols.values())
        if protocol.can_answer(task)
    ]
    for task, protocol in pairs:
        protocol.check(task)
    if pairs:
        return
    names = ", ".join(protocols)
    if tasks[0].kind == "unlabelled":
        raise UserError(
            f"The images of {tasks[0].name} carry no labels, and {names} needs them.",
            "Use --protocol retrieval, or name a column of classes with --target.",
        )
    able = [name for name, kind in PROTOCOLS if tasks[0].kind in kind.kinds]
    raise UserError(
        f"None of {names} answers a {tasks[0].kind} task such as {tasks[0].name}.",
        f"Use --protocol {' or '.join(able)}." if able else "",
    )


def _hash(*values: Any) -> str:
    text = json.dumps(values, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def _description(plan: Sequence[_Plan]) -> dict[str, Any]:
    bootstrap = plan[0].bootstrap
    return {
        "run_id": _hash(sorted(cell.run_id for part in plan for cell in part.cells)),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("dermino", "torch", "timm", "numpy")},
        },
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "seed": bootstrap.seed,
        "bootstrap": {
            "replicates": bootstrap.replicates,
            "confidence": bootstrap.confidence,
            "method": "percentile",
        },
    }


def _records(
    plan: Sequence[_Plan],
    candidates: Sequence[Candidate],
    protocols: Mapping[str, EvaluationProtocol],
    analyses: Mapping[str, Analysis],
) -> dict[str, list[dict[str, Any]]]:
    return {
        "encoders": [candidate.describe() for candidate in candidates],
        "tasks": [{**part.task.describe(), "fingerprint": part.fingerprint} for part in plan],
        "protocols": [
            {
                "name": name,
                "title": protocol.title,
                "description": protocol.description,
                "parameters": protocol.parameters,
            }
            for name, protocol in protocols.items()
        ],
        "analyses": [
            {
                "name": name,
                "title": analysis.title,
                "description": analysis.description,
                "parameters": analysis.model_dump(mode="json"),
            }
            for name, analysis in analyses.items()
        ],
        "exposures": [
            {"name": f"{encoder}/{part.task.name}", **exposure.describe()}
            for part in plan
            for encoder, exposure in part.exposures.items()
        ],
    }
