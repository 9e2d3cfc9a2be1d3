"""What the rows are measured on: the same tasks for all, whose test images none has seen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from dermino.ablation.columns import GROUPS, ColumnGroup, asked_protocols
from dermino.data.manifest import Manifest, read_manifests
from dermino.errors import UserError
from dermino.evaluate.derive import derive_tasks
from dermino.evaluate.evaluate import evaluate
from dermino.evaluate.features import check_files
from dermino.evaluate.leakage import SeenImages, seen_in_pretraining
from dermino.evaluate.protocol import configure_protocols
from dermino.evaluate.results import EVERYBODY
from dermino.evaluate.task import Task
from dermino.progress import console

FOLDER = "results"
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Figure:
    """A figure of the table.

    Parameters
    ----------
    value:
        Mean over the tasks, between 0 and 1; NaN where it is undefined in one of them.
    note:
        Why it is undefined.
    """

    value: float
    note: str = ""


Figures = dict[tuple[str, str], Figure]


@dataclass(frozen=True)
class Measurement:
    """What a group of columns is measured on, or why it is not measured.

    Parameters
    ----------
    group:
        The columns.
    tasks:
        Names of the tasks that its protocol is asked; empty if it is not measured.
    cell:
        What then stands in the cells.
    reason:
        And below the table: a sentence.
    """

    group: ColumnGroup
    tasks: tuple[str, ...] = ()
    cell: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Evaluation:
    """The tasks that every row is asked.

    Parameters
    ----------
    data:
        Manifests with a split.
    measurements:
        One for each group of columns.
    out:
        The results folder.
    settings:
        Parameters of protocols, as :func:`dermino.evaluate.evaluate.evaluate` takes them.
    cache:
        Folder of the feature cache; None takes the user's.
    """

    data: tuple[str | Path, ...]
    measurements: tuple[Measurement, ...]
    out: Path
    settings: tuple[str, ...] = ()
    cache: str | Path | None = None

    @classmethod
    def prepare(
        cls,
        data: Sequence[str | Path],
        seen: pa.Table,
        out: Path,
        protocols: Sequence[str] | None = None,
        settings: Sequence[str] = (),
        cache: str | Path | None = None,
    ) -> Evaluation:
        """Find the tasks and prove that they can be asked and no test image is trained on.

        Parameters
        ----------
        data, out, settings, cache:
            As above.
        seen:
            All images to train on, as :func:`dermino.pretrain.export.seen_images` gives them.
        protocols:
            As :func:`dermino.ablation.columns.asked_protocols` takes them.

        Raises
        ------
        UserError
            If nothing can be measured, or not what was asked for by name; if files, a language
            model or packages are missing; or if test images are among those to train on.
        """
        asked = asked_protocols(protocols)
        configured = configure_protocols(asked, settings)
        manifest = read_manifests(data)
        found = {
            target: _find_tasks(manifest, target)
            for target in dict.fromkeys(g.target for g in GROUPS if g.protocol in asked)
        }
        measurements = tuple(
            _measurement(group, *found[group.target])
            if group.protocol in asked
            else _unmeasured(group)
            for group in GROUPS
        )
        _check_possible(measurements, asked)
        _check_tasks([task for tasks, _ in found.values() for task in tasks], SeenImages(seen))
        for measurement in measurements:
            if measurement.tasks:
                protocol = configured[measurement.group.protocol]
                for task in found[measurement.group.target][0]:
                    protocol.check(task)
                protocol.check_environment()
        return cls(tuple(data), measurements, out, tuple(settings), cache)

    @property
    def measured(self) -> list[Measurement]:
        """Those that a row is measured by, in the table's order, which is also that of cost."""
        return [measurement for measurement in self.measurements if measurement.tasks]

    def measure(self, measurement: Measurement, name: str, run: Path) -> Figures:
        """Ask a row's encoder the tasks of one protocol; what was asked before is kept.

        Parameters
        ----------
        measurement:
            One of :attr:`measured`.
        name:
            What the results call the encoder.
        run:
            Its run folder.

        Returns
        -------
        dict
            By protocol and metric.

        Raises
        ------
        UserError
            If one of the tasks cannot be done; results of the others are kept.
        """
        group = measurement.group
        rows = evaluate(
            [f"{name}={run}"],
            self.data,
            self.out,
            tasks=measurement.tasks,
            protocols=[group.protocol],
            target=group.target,
            settings=[s for s in self.settings if s.startswith(f"{group.protocol}.")],
            cache=self.cache,
        )
        figures = {}
        for metric in group.metrics.values():
            own = rows[(rows["subgroup"] == EVERYBODY) & (rows["metric"] == metric)]
            notes = own.loc[own["value"].isna(), "note"].unique()
            value = float(own["value"].mean(skipna=False))
            figures[group.protocol, metric] = Figure(value, "; ".join(notes))
        return figures


def _find_tasks(manifest: Manifest, target: str) -> tuple[list[Task], str]:
    """Return the tasks of a column, and why there is none where some images have an answer."""
    answered = np.array([bool(value) for value in manifest.column(target)], bool)
    if not answered.any():
        return [], ""
    try:
        tasks, impossible = derive_tasks(manifest.select(answered), target)
    except UserError as error:
        return [], " ".join(str(error).split())
    for name, reason in impossible.items():
        console.print(f"Not evaluated: '{name}'. {reason}", markup=False, soft_wrap=True)
    return tasks, ""


def _measurement(group: ColumnGroup, tasks: Sequence[Task], reason: str) -> Measurement:
    if tasks:
        return Measurement(group, tuple(task.name for task in tasks))
    if reason:
        return Measurement(group, (), NOT_MEASURED, reason)
    return Measurement(
        group, (), f"no {group.answers}", f"No image to evaluate on has {group.answers}."
    )


def _unmeasured(group: ColumnGroup) -> Measurement:
    if group.protocol:
        return Measurement(group, (), "not asked for", f"It takes --protocol {group.protocol}.")
    return Measurement(group, (), NOT_MEASURED, "dermino has no federated training yet.")


def _check_possible(measurements: Iterable[Measurement], asked: dict[str, bool]) -> None:
    """Refuse what was asked for by name and cannot be measured, and a table without figures."""
    failed = [m for m in measurements if m.group.protocol in asked and not m.tasks]
    named = [m for m in failed if asked[m.group.protocol]]
    if named or len(failed) == len(asked):
        lost = (named or failed)[0]
        raise UserError(
            f"{lost.group.title} cannot be measured. {lost.reason}",
            f"Name manifests with a split that have {lost.group.answers}: --evaluate-on. Or choose "
            "others with --protocol.",
        )


def _check_tasks(tasks: Iterable[Task], trained: SeenImages) -> None:
    """Prove that all files are there and that no test image is trained on."""
    for task in tasks:
        check_files(task.files())
        if leaked := seen_in_pretraining(task, trained, None).test_images:
            raise UserError(
                f"{leaked:,} test images of task '{task.name}' are among the images to train "
                "on, or were seen by the weights to start from.",
                "Give --data the manifest with the split, so that its test rows are left out, "
                "or choose other tasks with --evaluate-on.",
            )


def split_manifests(paths: Sequence[str | Path], manifests: Sequence[Manifest]) -> list[str | Path]:
    """Return the paths of those manifests that have a train and a test split.

    Raises
    ------
    UserError
        If none has.
    """
    found = [
        path
        for path, manifest in zip(paths, manifests, strict=True)
        if {"train", "test"} <= set(manifest.column("split"))
    ]
    if not found:
        raise UserError(
            "No manifest of --data has a train and a test split to evaluate on.",
            "Make one with dermino data split MANIFEST, or name others with --evaluate-on.",
        )
    return found
