"""``dermino report``: one page with everything that an evaluation found."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from dermino import __version__
from dermino.errors import UserError
from dermino.files import writable_file, write_text
from dermino.progress import track
from dermino.report.balance import balance
from dermino.report.bars import bar_exhibits
from dermino.report.critical_difference import critical_differences
from dermino.report.embedding_map import image_maps, label_maps, projections
from dermino.report.evaluation import Exposure, Seen
from dermino.report.exhibit import Exhibit
from dermino.report.model_card import collect_cards
from dermino.report.numbers import write_numbers
from dermino.report.overlays import PREDICTED_COLOUR, TRUE_COLOUR
from dermino.report.results import Results
from dermino.report.runs import RUN_FILES, Run, training_panels
from dermino.report.seen import explain_marks, seen_title
from dermino.report.style import Mark, marks
from dermino.report.tables import class_counts, seen_table
from dermino.report.task_section import task_section
from dermino.report.templates import html_templates
from dermino.report.write_cards import write_model_cards


def report(
    results: str | Path,
    out: str | Path,
    title: str | None = None,
    runs: Sequence[str | Path] = (),
    images: bool = True,
    maps: bool = False,
    cache: str | Path | None = None,
    tables: str | Path | None = None,
    model_cards: str | Path | None = None,
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
        Whether to show test images with their neighbours, captions and outlines; False keeps every
        picture, and every text about a single image, off the page.
    maps:
        Draw label embeddings and image embeddings as t-SNE and UMAP maps that can be enlarged. The
        page then has a script of its own.
    cache:
        The feature cache that the evaluation used, for ``maps``. Default: that of the user.
    tables:
        Folder for the numbers of every figure as CSV and LaTeX; the page itself holds them too.
    model_cards:
        Folder for a model card of each encoder, as the Hugging Face hub wants them, and one page
        with all.

    Raises
    ------
    UserError
        If ``results`` holds no readable results, a folder of ``runs`` does not exist, or ``out``
        cannot be written.
    """
    found = Results.read(results)
    out = writable_file(out, inputs=[*found.folder.glob("*.csv"), *found.folder.glob("*.json")])
    shown_runs = _runs(found, runs)
    names = [encoder.name for encoder in found.encoders]
    looks = marks([*names, *(run.name for run in shown_runs)])
    overview = _overview(found, looks)
    sections = [
        task_section(found, task, looks, images) for task in track(found.tasks, "Drawing the tasks")
    ]
    page = (
        html_templates()
        .get_template("page.html")
        .render(
            title=title or _title(found),
            version=__version__,
            evaluation=found.evaluation,
            images=images,
            command=shlex.join(found.evaluation.command),
            encoders=found.encoders,
            protocols=found.protocols,
            curves=list({record.curve: record for record in found.curve_points}.values()),
            true_colour=TRUE_COLOUR,
            predicted_colour=PREDICTED_COLOUR,
            overview=overview,
            seen_marks=explain_marks(found.table["seen_in_pretraining"]),
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
    )
    write_text(out, page)
    if tables is not None:
        by_task = [exhibit for own in sections for exhibit in (own.numbers, *own.exhibits)]
        write_numbers([*overview, *by_task], tables)
    if model_cards is not None:
        cards = collect_cards(found, shown_runs)
        write_model_cards(cards, model_cards, title or _title(found))
    return out


def _overview(found: Results, looks: Mapping[str, Mark]) -> list[Exhibit]:
    """Draw what several tasks say together; of a single task its own section tells all."""
    if len(found.tasks) < 2:
        return []
    exhibits = [balance(found), *bar_exhibits(found, looks), critical_differences(found, looks)]
    return [exhibit for exhibit in exhibits if exhibit is not None]


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
