"""What the rows are measured on: the same tasks for all, whose test images none has seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dermino.ablation.layout import GROUPS
from dermino.data.manifest import Manifest, read_manifests
from dermino.errors import UserError
from dermino.evaluate.derive import derive_tasks
from dermino.evaluate.evaluate import evaluate
from dermino.evaluate.leakage import SeenImages, seen_in_pretraining
from dermino.evaluate.results import EVERYBODY
from dermino.progress import console

FOLDER = "results"
_PROTOCOLS = {group.protocol: tuple(group.metrics.values()) for group in GROUPS if group.protocol}


@dataclass(frozen=True)
class Evaluation:
    """The tasks that every row is asked.

    Parameters
    ----------
    data:
        Manifests with a split.
    tasks:
        Names of the tasks in them that can be scored.
    out:
        The results folder.
    cache:
        Folder of the feature cache; None takes the user's.
    """

    data: tuple[str | Path, ...]
    tasks: tuple[str, ...]
    out: Path
    cache: str | Path | None = None

    @classmethod
    def prepare(
        cls,
        data: Sequence[str | Path],
        seen: pa.Table,
        out: Path,
        cache: str | Path | None = None,
    ) -> Evaluation:
        """Find the tasks and prove that none of their test images is trained on.

        Parameters
        ----------
        data, out, cache:
            As above.
        seen:
            All images to train on, as :func:`dermino.pretrain.export.seen_images` gives them.

        Raises
        ------
        UserError
            If nothing can be scored, or test images are among those to train on.
        """
        found, impossible = derive_tasks(read_manifests(data))
        unlabelled = {
            task.name: "Its images carry no labels." for task in found if not task.classes
        }
        for name, reason in {**impossible, **unlabelled}.items():
            console.print(f"Not evaluated: '{name}'. {reason}", markup=False, soft_wrap=True)
        tasks = [task for task in found if task.classes]
        if not tasks:
            raise UserError(
                "No image to evaluate on carries a label, so the rows cannot be compared.",
                "Name labelled manifests with a split: --evaluate-on.",
            )
        trained = SeenImages(seen)
        for task in tasks:
            if leaked := seen_in_pretraining(task, trained, None).test_images:
                raise UserError(
                    f"{leaked:,} test images of task '{task.name}' are among the images to train "
                    "on, or were seen by the weights to start from.",
                    "Give --data the manifest with the split, so that its test rows are left out, "
                    "or choose other tasks with --evaluate-on.",
                )
        return cls(tuple(data), tuple(task.name for task in tasks), out, cache)

    def scores(self, name: str, run: Path) -> dict[tuple[str, str], float]:
        """Evaluate a row's encoder.

        Parameters
        ----------
        name:
            What the results call it.
        run:
            Its run folder.

        Returns
        -------
        dict
            Protocol and metric to the mean over the tasks, a fraction; NaN where it is undefined
            in one of them.
        """
        rows = evaluate(
            [f"{name}={run}"],
            self.data,
            self.out,
            tasks=self.tasks,
            protocols=tuple(_PROTOCOLS),
            cache=self.cache,
        )
        rows = rows[rows["subgroup"] == EVERYBODY]
        means = rows.groupby(["protocol", "metric"])["value"].agg(lambda v: v.mean(skipna=False))
        return {
            (protocol, metric): float(means[protocol, metric])
            for protocol, metrics in _PROTOCOLS.items()
            for metric in metrics
        }


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
