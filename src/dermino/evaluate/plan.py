"""What an evaluation will do: for each task its cells, each under the hash of all it depends on."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from dermino.evaluate.analysis import Analysis
from dermino.evaluate.bootstrap import Bootstrap
from dermino.evaluate.candidate import Candidate
from dermino.evaluate.feature_cache import FeatureCache
from dermino.evaluate.leakage import Exposure
from dermino.evaluate.predictions import Cell
from dermino.evaluate.protocol import EvaluationProtocol
from dermino.evaluate.task import Task


@dataclass(frozen=True)
class TaskPlan:
    """One task and all that is to be asked of it.

    Parameters
    ----------
    task:
        The task.
    digests:
        Content digest of each image, shape (n, 16), uint8.
    fingerprint:
        Of the task.
    bootstrap:
        How intervals are made.
    protocols:
        By name.
    exposures:
        What each encoder saw of the task, by its name.
    cells:
        One for each encoder and protocol.
    """

    task: Task
    digests: np.ndarray
    fingerprint: str
    bootstrap: Bootstrap
    protocols: Mapping[str, EvaluationProtocol]
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
    ) -> TaskPlan:
        """Plan a task; all its files are read once, for their digests."""
        contents = cache.digests(task.files())
        digests = contents[: len(task.targets)]
        task, fingerprint = task.compared(digests), task.fingerprint(contents)
        cells = [
            Cell(
                candidate.name,
                task.name,
                name,
                run_id=hash_of(
                    candidate.encoder.identity,
                    fingerprint,
                    name,
                    protocol.parameters,
                    asdict(bootstrap),
                ),
            )
            for candidate in candidates
            for name, protocol in protocols.items()
        ]
        exposures = {candidate.name: candidate.exposure(task) for candidate in candidates}
        return cls(task, digests, fingerprint, bootstrap, protocols, exposures, cells)


def hash_of(*values: Any) -> str:
    """Return a short hash of plain values."""
    text = json.dumps(values, sort_keys=True).encode()
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def describe_plan(plan: Sequence[TaskPlan]) -> dict[str, Any]:
    """Return what ``evaluation.json`` says of the call as a whole."""
    bootstrap = plan[0].bootstrap
    return {
        "run_id": hash_of(sorted(cell.run_id for part in plan for cell in part.cells)),
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
            "method": bootstrap.method,
            "stratified": bootstrap.stratified,
        },
    }


def plan_records(
    plan: Sequence[TaskPlan],
    candidates: Sequence[Candidate],
    analyses: Mapping[str, Analysis],
) -> dict[str, list[dict[str, Any]]]:
    """Return what ``evaluation.json`` says of encoders, tasks, protocols and analyses."""
    protocols = {name: own for part in plan for name, own in part.protocols.items()}
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
