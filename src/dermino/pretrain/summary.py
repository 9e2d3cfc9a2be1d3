"""``summary.md``: a run on one page, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from dermino.files import write_text
from dermino.pretrain.metrics_log import read_metrics
from dermino.pretrain.monitors.figures import ADVICE, COLLAPSE, FIGURES, Figure
from dermino.pretrain.nonfinite import FILE_NAME as SKIPPED_FILE
from dermino.pretrain.plan import Plan
from dermino.pretrain.unreadable import FILE_NAME as UNREADABLE_FILE
from dermino.pretrain.unreadable import count_unreadable

_NOT_A_TERM = {"step", "images_per_second", COLLAPSE, *FIGURES}


def write_summary(run: Path, plan: Plan) -> None:
    """Write ``summary.md``: the plan in words, how the losses moved, what the monitors saw."""
    records = read_metrics(run)
    lines = [
        f"# {run.resolve().name}",
        "",
        f"`{plan.method}` pretraining of `{plan.architecture}` from {plan.init}: "
        f"{plan.steps:,} steps of {plan.batch_size} images "
        f"({plan.true_epochs:.1f} passes over {plan.images:,} images), {plan.concepts} concepts.",
        "",
        "| dataset | images | labelled |",
        "|---|---:|---:|",
        *(
            f"| {name} | {counts['images']:,} | {counts['labelled']:,} |"
            for name, counts in plan.sources.items()
        ),
    ]
    if records:
        first, last = records[0], records[-1]
        names = [name for name in {**first, **last} if name not in _NOT_A_TERM]
        lines += [
            "",
            f"| | step {first['step']} | step {last['step']} |",
            "|---|---:|---:|",
            *(f"| {name} | {_figure(first, name)} | {_figure(last, name)} |" for name in names),
            "",
            f"Throughput at the end: {last['images_per_second']:.1f} images/s, "
            f"{100 * last['data_wait']:.1f} % of the time waiting for data.",
            *_mishaps(run),
            *_monitors(records, plan),
        ]
    lines += ["", "Research use only; not a medical device.", ""]
    write_text(run / "summary.md", "\n".join(lines))


def _figure(record: Mapping[str, float], name: str) -> str:
    return f"{record[name]:.4g}" if name in record else "not a number"


def _mishaps(run: Path) -> list[str]:
    """Say what was left out of the training, and where it is listed."""
    unreadable, skipped = count_unreadable(run), len(read_metrics(run, SKIPPED_FILE))
    lines = []
    if unreadable:
        lines.append(
            f"Images that could not be read and were replaced by others: {unreadable:,} "
            f"(`{UNREADABLE_FILE}`)."
        )
    if skipped:
        lines.append(
            f"Steps that were skipped because a loss or gradient was not a number: {skipped:,} "
            f"(`{SKIPPED_FILE}`)."
        )
    return ["", *lines] if lines else []


def _monitors(records: Sequence[Mapping[str, float]], plan: Plan) -> list[str]:
    """Explain each monitored figure, and say whether the run has collapsed."""
    shown = {
        name: [(int(record["step"]), record[name]) for record in records if name in record]
        for name in FIGURES
    }
    shown = {name: values for name, values in shown.items() if values}
    if not shown:
        return []
    at_end = {name for name, values in shown.items() if FIGURES[name].is_sign(values[-1][1])}
    return [
        "",
        "## Has it collapsed?",
        "",
        *_verdict(records, at_end),
        "",
        "A collapsed encoder answers alike whatever it is shown, while its loss may look fine. The "
        "figures below are of single steps and vary from one to the next; their trend counts.",
        "",
        "| | first | last | collapse | at the end |",
        "|---|---:|---:|---|---|",
        *(
            f"| {FIGURES[name].title} | {values[0][1]:.3g} | {values[-1][1]:.3g} | "
            f"{_limit(FIGURES[name])} | {_state(FIGURES[name], name in at_end)} |"
            for name, values in shown.items()
        ),
        "",
        *(f"- {_explain(name, values)}" for name, values in shown.items()),
        "",
        f"k-NN is measured on: {plan.neighbours}." if plan.neighbours else "",
    ]


def _verdict(records: Sequence[Mapping[str, float]], at_end: set[str]) -> list[str]:
    signalled = [int(record["step"]) for record in records if record.get(COLLAPSE)]
    if at_end:
        titles = ", ".join(sorted(FIGURES[name].title for name in at_end))
        return [
            f"**Probably, at the end: {titles}.** Do not use this encoder before you have compared "
            "it with `start.safetensors` (dermino evaluate). What usually helps, in this order:",
            "",
            *(f"{number}. {advice}" for number, advice in enumerate(ADVICE, 1)),
        ]
    if signalled:
        return [
            f"No sign of it at the end. {len(signalled)} records after the warm-up had one, "
            f"between step {signalled[0]} and step {signalled[-1]}."
        ]
    return ["No sign of it."]


def _limit(figure: Figure) -> str:
    if figure.low is not None:
        return f"below {figure.low:g}"
    return f"above {figure.high:g}" if figure.high is not None else ""


def _state(figure: Figure, is_sign: bool) -> str:
    if figure.low is None and figure.high is None:
        return ""
    return "**a sign**" if is_sign else "fine"


def _explain(name: str, values: Sequence[tuple[int, float]]) -> str:
    figure = FIGURES[name]
    best = ""
    if name == "knn_accuracy" and len(values) > 2:
        step, value = max(values, key=lambda item: item[1])
        best = f" Its best was {value:.3g} at step {step}."
    return f"**{figure.title}** (`{name}`): {figure.meaning}. {figure.reason}{best}"
