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

from dermino.data.manifest import read_manifests
from dermino.errors import UserError
from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.candidate import Candidate, load_candidates
from dermino.evaluate.feature_cache import FeatureCache
from dermino.evaluate.features import check_files, extract_many, resolve_device
from dermino.evaluate.leakage import Exposure
from dermino.evaluate.protocol import PROTOCOLS, EvaluationProtocol, Trial
from dermino.evaluate.results import Cell, ResultsFolder
from dermino.evaluate.scoring import score
from dermino.evaluate.summary import print_results
from dermino.evaluate.task import Task, derive_tasks
from dermino.progress import console

DEFAULT_PROTOCOLS = ("retrieval", "linear")


def evaluate(
    encoders: Sequence[str],
    data: Sequence[str | Path],
    out: str | Path,
    tasks: Sequence[str] | None = None,
    protocols: Sequence[str] | None = None,
    target: str | None = None,
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
        Names of :data:`dermino.evaluate.protocol.PROTOCOLS`. Default: retrieval and linear.
    target:
        Column to predict. Default: the labels, of images that have exactly one. Where no image of
        a dataset has any, neighbours are found and nothing is scored.
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
    asked = {name: PROTOCOLS.get(name)() for name in dict.fromkeys(protocols or DEFAULT_PROTOCOLS)}
    chosen, impossible = derive_tasks(read_manifests(data), target, tasks)
    _check_labels(chosen, asked)
    for task in chosen:
        check_files(task.manifest.paths())
    candidates = load_candidates(encoders, image_size, where)
    for name, reason in impossible.items():
        console.print(f"Task '{name}' is skipped. {reason}", markup=False, soft_wrap=True)
    for task, name in product(chosen, asked):
        if not _can_ask(task, asked[name]):
            reason = f"Protocol '{name}' is skipped for task '{task.name}', which has no labels."
            console.print(reason, markup=False, soft_wrap=True)
    plan = [
        _Plan.of(task, candidates, asked, Bootstrap(replicates, seed=seed), feature_cache)
        for task in chosen
    ]
    folder.describe(_description(plan), _records(plan, candidates, asked))
    for part in plan:
        for note in part.task.notes:
            console.print(f"Task '{part.task.name}': {note}.", markup=False, soft_wrap=True)
        todo = [cell for cell in part.cells if not folder.has(cell)]
        needed = [c for c in candidates if c.name in {cell.encoder for cell in todo}]
        features = extract_many(
            [candidate.encoder for candidate in needed],
            part.task.manifest.paths(),
            feature_cache,
            batch_size,
            workers,
            part.digests,
        )
        by_name = {c.name: values for c, values in zip(needed, features, strict=True)}
        for cell in todo:
            trial = Trial(part.task, by_name[cell.encoder], seed, where)
            outcome = asked[cell.protocol].run(trial)
            exposure = part.exposures[cell.encoder]
            folder.add(
                cell, part.task, outcome, score(outcome, part.task, part.bootstrap, exposure)
            )
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
        digests = cache.digests(task.manifest.paths())
        task, fingerprint = task.compared(digests), task.fingerprint(digests)
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
            if _can_ask(task, protocol)
        ]
        exposures = {candidate.name: candidate.exposure(task) for candidate in candidates}
        return cls(task, digests, fingerprint, bootstrap, exposures, cells)


def _can_ask(task: Task, protocol: EvaluationProtocol) -> bool:
    return bool(task.classes) or not protocol.needs_labels


def _check_labels(tasks: Sequence[Task], protocols: Mapping[str, EvaluationProtocol]) -> None:
    """Prove that something is left to do once protocols that need labels have them."""
    if any(_can_ask(task, protocol) for task in tasks for protocol in protocols.values()):
        return
    raise UserError(
        f"The images of {tasks[0].name} carry no labels, and {', '.join(protocols)} needs them.",
        "Use --protocol retrieval, or name a column of classes with --target.",
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
        "exposures": [
            {"name": f"{encoder}/{part.task.name}", **exposure.describe()}
            for part in plan
            for encoder, exposure in part.exposures.items()
        ],
    }
