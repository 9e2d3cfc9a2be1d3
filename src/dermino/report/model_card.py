"""Model cards: what an encoder is, what it saw, how well it does, what it is not for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from dermino.evaluate.metric_names import metric_title
from dermino.report.evaluation import EncoderRecord, Seen, TaskRecord
from dermino.report.results import Results
from dermino.report.runs import Run
from dermino.report.seen import seen_title

INTENDED_USE = (
    "Research: features for classification, retrieval and segmentation of skin images, for "
    "people who know machine learning and have a test set of their own."
)
NOT_FOR = (
    "Not a medical device. It must not be used to diagnose, to triage or to guide the care of a "
    "patient, nor to infer who a person is or which group they belong to."
)
LIMITS = (
    "Values hold for the test images named here and for heads trained on images of the same "
    "source; another clinic, camera or population can give other values.",
    "An interval covers what another draw of test images would change, not another training run.",
    "Where test images were seen in pretraining, or where that is unknown, a value says little "
    "about new patients.",
    "Skin types, ages and diagnoses that are rare in the data are judged by few images.",
)
_TYPES = {"segmentation": "image-segmentation", "caption": "image-to-text"}
_DEFAULT_TYPE = "image-classification"


@dataclass(frozen=True)
class CardResult:
    """One value of a card."""

    task: TaskRecord
    protocol: str
    metric: str
    group: str
    value: float
    low: float
    high: float
    n: int
    seen: str

    @property
    def interval(self) -> str:
        """The interval as text; nothing where there is none."""
        return "" if math.isnan(self.low) else f"{self.low:.3f}–{self.high:.3f}"


@dataclass(frozen=True)
class ModelCard:
    """Everything that a model card tells of one encoder.

    Parameters
    ----------
    encoder:
        Its record.
    training:
        How it was pretrained, in a line; empty where that is unknown.
    seen:
        Images of each dataset in pretraining; None where nobody knows.
    results, groups:
        Headline values over all test images, and for groups of patients.
    confidence:
        Nominal coverage of the intervals.
    versions:
        Of the software.
    """

    encoder: EncoderRecord
    training: str
    seen: Mapping[str, Seen] | None
    results: Sequence[CardResult]
    groups: Sequence[CardResult]
    confidence: float
    versions: Mapping[str, str]

    @property
    def synthetic(self) -> bool:
        """Whether a value was measured on generated pictures."""
        return any(result.task.synthetic for result in self.results)

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What the encoder is, as names and values; only what is known."""
        encoder = self.encoder
        facts = [
            ("Architecture", encoder.architecture),
            ("Parameters", f"{encoder.parameters / 1e6:.1f} M" if encoder.parameters else ""),
            ("Features", str(encoder.embed_dim or "")),
            ("Image size", f"{encoder.image_size} px" if encoder.image_size else ""),
            ("Read from", encoder.spec),
            ("Identity", encoder.identity),
            ("Pretraining", self.training),
        ]
        return [(name, value) for name, value in facts if value]

    @property
    def tasks(self) -> list[TaskRecord]:
        """The tasks that it was judged by."""
        return list({result.task.name: result.task for result in self.results}.values())

    def front_matter(self) -> str:
        """Return the metadata that the Hugging Face hub reads, as YAML between rulers."""
        matter: dict[str, Any] = {
            "library_name": "dermino",
            "pipeline_tag": "image-feature-extraction",
            "license": "unknown",
            "tags": ["dermatology", "medical-imaging", "feature-extraction", "research-only"],
        }
        if self.results:
            matter["model-index"] = [{"name": self.encoder.name, "results": self._index()}]
        text = yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)
        return f"---\n{text}---\n"

    def _index(self) -> list[dict[str, Any]]:
        entries = []
        for task in self.tasks:
            metrics = [
                {
                    "type": result.metric,
                    "name": f"{result.protocol}, {metric_title(result.metric)}",
                    "value": round(result.value, 4),
                }
                for result in self.results
                if result.task.name == task.name
            ]
            entries.append(
                {
                    "task": {"type": _TYPES.get(task.kind, _DEFAULT_TYPE), "name": task.called},
                    "dataset": {"name": task.called, "type": task.dataset or task.name},
                    "metrics": metrics,
                }
            )
        return entries


def collect_cards(found: Results, runs: Sequence[Run]) -> list[ModelCard]:
    """Collect a card for each encoder that has results."""
    by_name = {run.name: run for run in runs}
    bootstrap = found.evaluation.bootstrap
    cards = []
    for encoder in found.encoders:
        run = by_name.get(encoder.name)
        seen = encoder.seen if encoder.seen is not None or run is None else run.seen
        cards.append(
            ModelCard(
                encoder,
                run.highlights if run else "",
                seen,
                _results(found, encoder.name, groups=False),
                _results(found, encoder.name, groups=True),
                bootstrap.confidence if bootstrap else 0.95,
                found.evaluation.versions,
            )
        )
    return cards


def _results(found: Results, encoder: str, groups: bool) -> list[CardResult]:
    tasks = {task.name: task for task in found.tasks}
    headlines = {name: found.headlines(task) for name, task in tasks.items()}
    titles = {protocol.name: protocol.called for protocol in found.protocols}
    table = found.plain[(found.plain["encoder"] == encoder) & found.plain["value"].notna()]
    if groups:
        table = table[table["subgroup"].str.match(r"(skin_type|sex|age)\w*=")]
    else:
        table = table[table["subgroup"] == "all"]
    return [
        CardResult(
            tasks[row["task"]],
            titles[row["protocol"]],
            str(row["metric"]),
            str(row["subgroup"]).replace("_", " ").replace("=", " "),
            float(row["value"]),
            float(row["ci_low"]),
            float(row["ci_high"]),
            0 if math.isnan(row["n"]) else int(row["n"]),
            seen_title(str(row["seen_in_pretraining"])),
        )
        for row in table.to_dict("records")
        if row["metric"] in headlines[row["task"]]
    ]
