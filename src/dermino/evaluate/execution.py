"""Doing what a plan says: on one device in this process, on several with one process each."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dermino.errors import DiskFull, UserError
from dermino.evaluate.candidate import Candidate, load_candidates
from dermino.evaluate.feature_cache import FeatureCache
from dermino.evaluate.features import extract_many
from dermino.evaluate.plan import TaskPlan
from dermino.evaluate.predictions import Cell, KeptPredictions
from dermino.evaluate.protocol import Trial
from dermino.evaluate.results import ResultsFolder
from dermino.evaluate.scoring import score

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Setup:
    """What every process of an evaluation must know.

    Parameters
    ----------
    encoders:
        As :func:`dermino.evaluate.candidate.load_candidates` takes them.
    image_size:
        Side of their input in pixels, where it should differ from their own.
    folder:
        The results folder.
    cache:
        Folder of the feature cache.
    batch_size, workers:
        Images in a forward pass, and processes that decode.
    """

    encoders: tuple[str, ...]
    image_size: int | None
    folder: Path
    cache: Path | None
    batch_size: int = 64
    workers: int | None = None


class Evaluator:
    """Computes features and cells on one device.

    Parameters
    ----------
    setup:
        What to compute with.
    device:
        Where.
    candidates:
        The encoders, on the device.
    """

    def __init__(self, setup: Setup, device: torch.device, candidates: Sequence[Candidate]) -> None:
        self.setup = setup
        self.device = device
        self._encoders = {candidate.name: candidate.encoder for candidate in candidates}
        self._cache = FeatureCache(setup.cache)
        self._last: tuple[str, np.ndarray] = ("", np.empty(0))

    def extract(self, part: TaskPlan, names: Sequence[str]) -> None:
        """Put the features of several encoders into the cache, decoding each image once."""
        self._features(part, names)

    def run(self, part: TaskPlan, cell: Cell) -> Rows:
        """Ask one cell, write its predictions, and return its rows of the results table."""
        protocol = part.protocols[cell.protocol]
        features = np.empty((len(part.digests), 0), np.float32)
        if protocol.needs == "features":
            key = f"{cell.encoder} {part.fingerprint}"
            if self._last[0] != key:
                self._last = (key, self._features(part, [cell.encoder])[0])
            features = self._last[1]
        kept = KeptPredictions(self.setup.folder)
        kept.begin(cell)
        trial = Trial(
            part.task,
            features,
            part.bootstrap.seed,
            self.device,
            self._encoders[cell.encoder],
            kept.work_path(cell),
            kept.files_path(cell),
            self._cache,
            self.setup.batch_size,
            self.setup.workers,
        )
        outcome = protocol.run(trial)
        kept.write(cell, part.task, outcome)
        return score(outcome, part.task, part.bootstrap, part.exposures[cell.encoder])

    def _features(self, part: TaskPlan, names: Sequence[str]) -> list[np.ndarray]:
        return extract_many(
            [self._encoders[name] for name in names],
            part.task.manifest.paths(),
            self._cache,
            self.setup.batch_size,
            self.setup.workers,
            part.digests,
        )


def execute(
    plan: Sequence[TaskPlan],
    folder: ResultsFolder,
    setup: Setup,
    devices: Sequence[torch.device],
    candidates: Sequence[Candidate],
) -> dict[Cell, UserError]:
    """Do what is not done yet, and add it to the results cell by cell.

    On several devices, features of a task are computed by one process, for all encoders together;
    its cells then go to whichever process is free.

    Parameters
    ----------
    plan:
        What to do.
    folder:
        Where results are kept.
    setup:
        What to compute with.
    devices:
        Where to compute.
    candidates:
        The encoders; on the device if it is the only one.

    Returns
    -------
    dict
        The cells that could not be done, and why; they did not keep the others from being done.

    Raises
    ------
    DiskFull
        At once.
    """
    todo = [(part, [cell for cell in part.cells if not folder.has(cell)]) for part in plan]
    todo = [(part, cells) for part, cells in todo if cells]
    if len(devices) == 1:
        done = _one_by_one(todo, Evaluator(setup, devices[0], candidates))
    else:
        done = _side_by_side(todo, setup, devices)
    failed = {}
    for cell, result in done:
        if isinstance(result, DiskFull):
            raise result
        if isinstance(result, UserError):
            failed[cell] = result
        else:
            folder.add(cell, result)
    return failed


_Todo = Sequence[tuple[TaskPlan, list[Cell]]]


def _one_by_one(todo: _Todo, evaluator: Evaluator) -> Iterator[tuple[Cell, Rows | UserError]]:
    for part, cells in todo:
        try:
            evaluator.extract(part, _needing_features(part, cells))
        except UserError as error:
            yield from ((cell, error) for cell in cells)
            continue
        for cell in cells:
            try:
                yield cell, evaluator.run(part, cell)
            except UserError as error:
                yield cell, error


def _side_by_side(
    todo: _Todo, setup: Setup, devices: Sequence[torch.device]
) -> Iterator[tuple[Cell, Rows | UserError]]:
    context = multiprocessing.get_context("spawn")
    names = context.SimpleQueue()
    for device in devices:
        names.put(str(device))
    pool = ProcessPoolExecutor(len(devices), context, _begin, (setup, names))
    extracting: dict[Future[None], tuple[TaskPlan, list[Cell]]] = {
        pool.submit(_extract, part, _needing_features(part, cells)): (part, cells)
        for part, cells in todo
    }
    running: dict[Future[Rows], Cell] = {}
    try:
        while extracting or running:
            pending: set[Future[Any]] = {*extracting, *running}
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                error = future.exception()
                if error is not None and not isinstance(error, UserError):
                    raise error
                if future in running:
                    yield running.pop(future), error or future.result()
                    continue
                part, cells = extracting.pop(future)
                if error is None:
                    running |= {pool.submit(_run, part, cell): cell for cell in cells}
                else:
                    yield from ((cell, error) for cell in cells)
    finally:
        pool.shutdown(cancel_futures=True)


def _needing_features(part: TaskPlan, cells: Sequence[Cell]) -> list[str]:
    needing = [cell for cell in cells if part.protocols[cell.protocol].needs == "features"]
    return list(dict.fromkeys(cell.encoder for cell in needing))


# One evaluator a process, so that encoders are loaded once.
_evaluators: list[Evaluator] = []


def _begin(setup: Setup, devices: Any) -> None:
    # A killed command leaves no process behind; each holds a GPU.
    threading.Thread(target=_end_with_the_command, daemon=True).start()
    device = torch.device(devices.get())
    candidates = load_candidates(setup.encoders, setup.image_size, device)
    _evaluators.append(Evaluator(setup, device, candidates))


def _end_with_the_command() -> None:
    command = multiprocessing.parent_process()
    if command is not None:
        command.join()
        os._exit(1)


def _extract(part: TaskPlan, names: Sequence[str]) -> None:
    _evaluators[0].extract(part, names)


def _run(part: TaskPlan, cell: Cell) -> Rows:
    return _evaluators[0].run(part, cell)
