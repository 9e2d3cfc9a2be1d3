"""``dermino report``: one page with everything that an evaluation found."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from dermino import __version__
from dermino.errors import UserError
from dermino.files import writable_file, write_text
from dermino.progress import track
from dermino.report.confusion import Confusion, confusion
from dermino.report.curves import RocPanel, roc_panels
from dermino.report.embedding_map import image_maps, label_maps, projections
from dermino.report.gallery import Example, examples_a_task, gallery
from dermino.report.results import Exposure, ProtocolRecord, Results, Seen, TaskRecord, scores
from dermino.report.runs import RUN_FILES, Run, training_panels
from dermino.report.style import Mark, marks
from dermino.report.tables import (
    IntervalPanel,
    ResultTable,
    class_counts,
    interval_panels,
    result_table,
    seen_table,
    seen_title,
)

CURVES_PROTOCOL = "linear"
GALLERY_PROTOCOL = "retrieval"


@dataclass(frozen=True)
class _TaskSection:
    """Everything the page says about one task."""

    record: TaskRecord
    table: ResultTable
    intervals: list[IntervalPanel]
    curves_protocol: ProtocolRecord | None
    classes: list[str]
    roc: list[RocPanel]
    confusions: list[Confusion]
    examples: list[Example]
    subgroups: int

    @property
    def pictures_gone(self) -> int:
        """How many of the pictures shown could not be read."""
        shown = [example.picture for example in self.examples]
        for example in self.examples:
            shown += [picture for answer in example.answers for picture in answer.neighbours]
        return sum(picture.data is None for picture in shown)


def report(
    results: str | Path,
    out: str | Path,
    title: str | None = None,
    runs: Sequence[str | Path] = (),
    images: bool = True,
    maps: bool = False,
    cache: str | Path | None = None,
) -> Path:
    """Write what an evaluation found as one self-contained HTML page.

    Tables with intervals, ROC curves, confusion matrices, test images with their nearest
    neighbours, training curves, what each encoder saw in pretraining and how all was measured.
    The page asks nothing of the network. What the folder lacks is said in a sentence.

    Parameters
    ----------
    results:
        The folder that :func:`dermino.evaluate.evaluate` wrote.
    out:
        The HTML file.
    title:
        The page's heading. Default: the encoders and datasets.
    runs:
        Pretraining run folders to show besides those of the evaluated encoders.
    images:
        Whether to show test images and their neighbours; False keeps every picture off the page.

    maps:
        Draw label embeddings and image embeddings as t-SNE and UMAP maps that can be enlarged. The
        page then has a script of its own.
    cache:
        The feature cache that the evaluation used, for ``maps``. Default: that of the user.

    Raises
    ------
    UserError
        If ``results`` holds no readable results, a folder of ``runs`` does not exist, or ``out``
        cannot be written.
    """
    found = Results.read(results)
    out = writable_file(out)
    shown_runs = _runs(found, runs)
    names = [encoder.name for encoder in found.encoders]
    looks = marks([*names, *(run.name for run in shown_runs)])
    sections = [
        _task_section(found, task, looks, images)
        for task in track(found.tasks, "Drawing the tasks")
    ]
    environment = Environment(
        loader=PackageLoader("dermino.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style = files("dermino.report").joinpath("page.css").read_text(encoding="utf-8")
    page = environment.get_template("page.html").render(
        title=title or _title(found),
        style=Markup(style),
        version=__version__,
        evaluation=found.evaluation,
        images=images,
        command=shlex.join(found.evaluation.command),
        encoders=found.encoders,
        protocols=found.protocols,
        sections=sections,
        synthetic=[task for task in found.tasks if task.synthetic],
        looks=looks,
        runs=shown_runs,
        training=training_panels(shown_runs, looks),
        seen=seen_table(_seen(found, shown_runs)),
        overlaps=_overlaps(found),
        class_counts=class_counts,
        maps=[*label_maps(shown_runs), *image_maps(found, cache, images)] if maps else None,
        umap="UMAP" in projections(),
    )
    write_text(out, page)
    return out


def _runs(found: Results, more: Sequence[str | Path]) -> list[Run]:
    """Read the runs behind the encoders, where their folders still exist, and those asked for."""
    runs: dict[Path, Run] = {}
    for encoder in found.encoders:
        folder = Path(encoder.run) if encoder.run else None
        if folder and folder.is_dir() and folder.resolve() not in runs:
            runs[folder.resolve()] = Run.read(folder, encoder.name)
    taken = {encoder.name for encoder in found.encoders}
    for path in map(Path, more):
        if not path.is_dir():
            raise UserError(f"There is no run folder '{path}'.", "Check --runs.")
        if not any((path / name).is_file() for name in RUN_FILES):
            files = ", ".join(RUN_FILES)
            raise UserError(f"The folder '{path}' holds no run: none of {files}.", "Check --runs.")
        if path.resolve() not in runs:
            name = path.name if path.name not in taken else str(path)
            taken.add(name)
            runs[path.resolve()] = Run.read(path, name)
    return list(runs.values())


def _seen(found: Results, runs: Sequence[Run]) -> dict[str, Mapping[str, Seen] | None]:
    """Return what each encoder and run saw; None where nobody knows."""
    seen: dict[str, Mapping[str, Seen] | None] = {run.name: run.seen for run in runs}
    for encoder in found.encoders:
        if encoder.seen is not None or encoder.name not in seen:
            seen[encoder.name] = encoder.seen
    order = dict.fromkeys([*(encoder.name for encoder in found.encoders), *seen])
    return {name: seen[name] for name in order}


def _task_section(
    found: Results, task: TaskRecord, looks: Mapping[str, Mark], images: bool
) -> _TaskSection:
    rows = found.overall(task.name)
    protocol, predictions = _curves_predictions(found, task) if task.labelled else (None, {})
    retrieved = _predictions(found, task, GALLERY_PROTOCOL) if images else {}
    classes = list(task.classes or ())
    if not classes and predictions:
        classes = list(scores(next(iter(predictions.values()))).columns)
    return _TaskSection(
        record=task,
        table=result_table(rows, found.encoders, found.protocols),
        intervals=interval_panels(rows, found.encoders, found.protocols, looks, task.name),
        curves_protocol=protocol,
        classes=classes,
        roc=roc_panels(predictions, classes, looks, task.name) if predictions else [],
        confusions=[confusion(frame, classes, name) for name, frame in predictions.items()],
        examples=gallery(
            retrieved,
            task.root,
            examples_a_task(len(found.tasks), len(retrieved)),
            found.evaluation.seed or 0,
            task.labelled,
        ),
        subgroups=len(found.table[found.table["task"] == task.name]) - len(rows),
    )


def _curves_predictions(
    found: Results, task: TaskRecord
) -> tuple[ProtocolRecord | None, dict[str, pd.DataFrame]]:
    """Return the linear protocol's predictions, or those of the first protocol that has any."""
    for protocol in sorted(found.protocols, key=lambda item: item.name != CURVES_PROTOCOL):
        predictions = {
            name: frame
            for name, frame in _predictions(found, task, protocol.name).items()
            if not scores(frame).empty
        }
        if predictions:
            return protocol, predictions
    return None, {}


def _predictions(found: Results, task: TaskRecord, protocol: str) -> dict[str, pd.DataFrame]:
    frames = {
        encoder.name: found.predictions(task.name, encoder.name, protocol)
        for encoder in found.encoders
    }
    return {name: frame for name, frame in frames.items() if frame is not None}


def _overlaps(found: Results) -> dict[tuple[str, str], tuple[str, Exposure | None]]:
    """Return, for each encoder and task, what of the task the encoder saw in pretraining."""
    exposures = {exposure.name: exposure for exposure in found.evaluation.exposures}
    return {
        (encoder, task): (seen_title(flag), exposures.get(f"{encoder}/{task}"))
        for encoder, task, flag in zip(
            found.table["encoder"],
            found.table["task"],
            found.table["seen_in_pretraining"],
            strict=True,
        )
    }


def _title(found: Results) -> str:
    encoders = [encoder.name for encoder in found.encoders]
    datasets = list(dict.fromkeys(task.dataset or task.name for task in found.tasks))
    who = encoders[0] if len(encoders) == 1 else f"{len(encoders)} encoders"
    what = ", ".join(datasets) if len(datasets) <= 3 else f"{len(found.tasks)} tasks"
    return f"{who} on {what}"
