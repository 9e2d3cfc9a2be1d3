"""Everything the page says about one task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from dermino.evaluate.metric_names import in_reading_order
from dermino.report.captions import CaptionExample, caption_examples
from dermino.report.confusion import Confusion, confusion
from dermino.report.evaluation import ProtocolRecord, TaskRecord
from dermino.report.exhibit import Exhibit, Panel
from dermino.report.fairness import fairness_exhibits
from dermino.report.gallery import Example, examples_a_task, gallery
from dermino.report.hardest import HardCase, hardest_cases
from dermino.report.learning_curves import learning_curves
from dermino.report.overlays import OverlayExample, overlay_examples
from dermino.report.reliability import reliability
from dermino.report.results import Results, scores
from dermino.report.risk_coverage import risk_coverage
from dermino.report.roc_curves import roc_exhibit
from dermino.report.seen import explain_marks
from dermino.report.significance import significance
from dermino.report.style import Mark
from dermino.report.tables import ResultTable, interval_panels, result_table

CURVES_PROTOCOL = "linear"
GALLERY_PROTOCOL = "retrieval"
_FIRST_METRICS = 4
_HARD_CASES = 8
_CAPTIONS = 6


@dataclass(frozen=True)
class TaskSection:
    """What the page says about one task.

    Parameters
    ----------
    record:
        The task.
    table, more:
        The metrics that matter most, and all others.
    intervals:
        Dots and whiskers of the former.
    asked:
        The protocol that curves, confusions and hard cases are of.
    classes:
        In the order to be shown.
    exhibits:
        ROC curves, reliability, risk and coverage, subgroups, significance: whatever there is.
    confusions, examples, hardest:
        The rest, empty where the results or the privacy asked for do not allow it.
    captions, overlays:
        Examples of each protocol, by what people call it; empty likewise.
    rows:
        The results over all test images.
    """

    record: TaskRecord
    table: ResultTable
    more: ResultTable | None
    intervals: list[Panel]
    asked: ProtocolRecord | None
    classes: list[str]
    exhibits: list[Exhibit]
    confusions: list[Confusion]
    examples: list[Example]
    hardest: list[HardCase]
    captions: dict[str, list[CaptionExample]]
    overlays: dict[str, list[OverlayExample]]
    rows: pd.DataFrame

    @property
    def numbers(self) -> Exhibit:
        """The results over all test images, for CSV and LaTeX."""
        columns = ["protocol", "metric", "encoder", "value", "ci_low", "ci_high", "n"]
        return Exhibit(
            f"{self.record.name}-results",
            f"Results on {self.record.called}",
            "",
            self.rows[[*columns, "seen_in_pretraining", "note"]].reset_index(drop=True),
            across="encoder",
        )

    @property
    def marks(self) -> str:
        """What the marks behind the encoders' names mean; nothing where there is none."""
        return explain_marks(self.rows["seen_in_pretraining"])

    @property
    def pictures_gone(self) -> int:
        """How many of the pictures shown could not be read."""
        shown = [example.picture for example in self.examples]
        for example in self.examples:
            shown += [picture for answer in example.answers for picture in answer.neighbours]
        return sum(picture.data is None for picture in shown)


def task_section(
    found: Results, task: TaskRecord, looks: Mapping[str, Mark], images: bool
) -> TaskSection:
    """Collect what the results hold about a task.

    Parameters
    ----------
    found, task:
        The results, and the task in them.
    looks:
        The look of each encoder.
    images:
        Whether pictures and texts about single images may be shown.
    """
    rows = found.overall(task.name)
    present = list(dict.fromkeys(rows["metric"]))
    metrics = in_reading_order(task.kind, found.headlines(task), present)
    first, rest = metrics[:_FIRST_METRICS], metrics[_FIRST_METRICS:]
    asked, predictions = _scored(found, task)
    classes = list(task.classes or ())
    if not classes and predictions:
        classes = list(scores(next(iter(predictions.values()))).columns)
    single = task.has_classes and task.kind != "multilabel"
    retrieved = _predictions(found, task, GALLERY_PROTOCOL) if images and single else {}
    return TaskSection(
        record=task,
        table=result_table(rows, found.encoders, found.protocols, first),
        more=result_table(rows, found.encoders, found.protocols, rest) if rest else None,
        intervals=interval_panels(rows, found.encoders, found.protocols, looks, task.name, first),
        asked=asked,
        classes=classes,
        exhibits=_exhibits(found, task, looks, asked, predictions, classes, single),
        confusions=[confusion(frame, classes, name) for name, frame in predictions.items()]
        if single
        else [],
        examples=gallery(
            retrieved,
            task.root,
            examples_a_task(len(found.tasks), len(retrieved)),
            found.evaluation.seed or 0,
            task.labelled,
        ),
        hardest=hardest_cases(predictions, task.root, _HARD_CASES) if images and single else [],
        captions=_captions(found, task) if images and task.kind == "caption" else {},
        overlays=_overlays(found, task) if images and task.kind == "segmentation" else {},
        rows=rows,
    )


def _exhibits(
    found: Results,
    task: TaskRecord,
    looks: Mapping[str, Mark],
    asked: ProtocolRecord | None,
    predictions: Mapping[str, pd.DataFrame],
    classes: list[str],
    single: bool,
) -> list[Exhibit]:
    exhibits: list[Exhibit | None] = []
    if asked is not None:
        exhibits.append(roc_exhibit(predictions, classes, looks, task.name, asked.called))
        if single:
            exhibits.append(reliability(predictions, looks, task.name, asked.called))
            exhibits.append(risk_coverage(predictions, looks, task.name, asked.called))
    exhibits += learning_curves(found, task, looks)
    exhibits += fairness_exhibits(found, task, looks)
    exhibits.append(significance(found, task))
    return [exhibit for exhibit in exhibits if exhibit is not None]


def _scored(
    found: Results, task: TaskRecord
) -> tuple[ProtocolRecord | None, dict[str, pd.DataFrame]]:
    """Return the linear protocol's predictions, or those of the first protocol that has any."""
    if not (task.labelled and task.has_classes):
        return None, {}
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


def _captions(found: Results, task: TaskRecord) -> dict[str, list[CaptionExample]]:
    seed = found.evaluation.seed or 0
    examples = {
        protocol.called: caption_examples(
            _predictions(found, task, protocol.name), task.root, _CAPTIONS, seed
        )
        for protocol in found.protocols
    }
    return {asked: own for asked, own in examples.items() if own}


def _overlays(found: Results, task: TaskRecord) -> dict[str, list[OverlayExample]]:
    examples = {}
    for protocol in found.protocols:
        predictions = _predictions(found, task, protocol.name)
        folders = {name: found.files(task.name, name, protocol.name) for name in predictions}
        if own := overlay_examples(predictions, folders, task.root):
            examples[protocol.called] = own
    return examples
