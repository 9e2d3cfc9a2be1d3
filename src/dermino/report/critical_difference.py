"""Which encoders differ over many tasks: mean ranks and Nemenyi's critical difference.

Demsar 2006, "Statistical comparisons of classifiers over multiple data sets", section 3.2.2.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes

from dermino.evaluate.metric_names import metric_title
from dermino.report.exhibit import Exhibit, Panel
from dermino.report.figures import shortened
from dermino.report.results import Results
from dermino.report.style import INK, MUTED, RULE, Mark, draw

_FEW_TASKS = 6
_FEWEST_ENCODERS = 3
_ROW = 34
_BOTTOM = 40


def critical_differences(found: Results, looks: Mapping[str, Mark]) -> Exhibit | None:
    """Draw the mean ranks of ``ranks.csv``: a panel for each protocol and metric.

    Returns
    -------
    Exhibit or None
        None where ``dermino compare`` has not been run, or ranked fewer than three encoders or two
        tasks.
    """
    titles = {protocol.name: protocol.called for protocol in found.protocols}
    ranks = found.ranks
    table = ranks[
        (ranks["tasks"] > 1) & ranks["encoder"].isin(list(looks)) & ranks["protocol"].isin(titles)
    ]
    panels, shown = [], []
    for key, rows in table.groupby(["protocol", "metric"], sort=False):
        protocol, metric = map(str, key)
        if len(rows) < _FEWEST_ENCODERS:
            continue
        first = rows.iloc[0]
        means = rows.set_index("encoder")["mean_rank"].sort_values(kind="stable")
        difference = float(first["critical_difference"])
        title = f"{titles[protocol]}: {metric_title(metric)}"
        detail = (
            f"{int(first['tasks'])} tasks, Friedman p {_p(float(first['friedman_p']))}, critical "
            f"difference {difference:.2f}"
        )
        figure = _draw(means, difference, looks, title, f"ranks-{protocol}-{metric}")
        panels.append(Panel(title, figure, detail))
        shown.append(rows)
    if not panels:
        return None
    numbers = pd.concat(shown, ignore_index=True)
    text = (
        "Encoders are ranked on each task, the best first. Mean ranks joined by a line are not "
        "told apart by Nemenyi's test at 5 %; Friedman's test asks whether any differ."
    )
    if numbers["tasks"].min() < _FEW_TASKS:
        text += " With so few tasks the test has little power: a line is no sign of equality."
    return Exhibit("ranks", "Ranks over tasks", text, numbers, panels, size="medium")


def runs_of_alike(mean_ranks: np.ndarray, critical_difference: float) -> list[tuple[int, int]]:
    """Return first and last place of each longest run of ranks that are not told apart.

    Parameters
    ----------
    mean_ranks:
        Shape (k,), ascending.
    critical_difference:
        Ranks that differ by no more are not told apart.
    """
    runs: list[tuple[int, int]] = []
    for first, own in enumerate(mean_ranks):
        last = int(np.flatnonzero(mean_ranks - own <= critical_difference)[-1])
        if last > first and (not runs or last > runs[-1][1]):
            runs.append((first, last))
    return runs


def _draw(
    ranks: pd.Series, difference: float, looks: Mapping[str, Mark], title: str, name: str
) -> Markup:
    k = len(ranks)
    runs = runs_of_alike(ranks.to_numpy(), difference)
    step = 0.03 * k

    def paint(axes: Axes) -> None:
        for place, (encoder, mean) in enumerate(ranks.items()):
            look, height = looks[str(encoder)], k - 1 - place
            axes.plot([1, mean], [height] * 2, color=RULE, linewidth=1)
            axes.plot(mean, height, marker=look.marker, color=look.colour, markersize=7)
            axes.text(
                0,
                height + 0.27,
                f"{shortened(str(encoder))}  {mean:.2f}",
                transform=axes.get_yaxis_transform(),
                parse_math=False,
            )
        for number, (first, last) in enumerate(runs):
            x = k + step * (2 + number)
            ends = [k - 1 - first + 0.12, k - 1 - last - 0.12]
            axes.plot([x, x], ends, color=INK, linewidth=3.5, solid_capstyle="butt")
        axes.set(
            xlim=(1 - step, k + step * (2.5 + len(runs))),
            ylim=(-0.5, k - 0.3),
            xticks=range(1, k + 1),
            yticks=[],
            xlabel="mean rank",
        )
        axes.tick_params(length=0)
        axes.xaxis.label.set_color(MUTED)
        axes.spines["left"].set_visible(False)
        axes.spines["bottom"].set_bounds(1, k)

    said = "; ".join(f"{encoder} {mean:.2f}" for encoder, mean in ranks.items())
    height = _BOTTOM + _ROW * k
    position = (0.01, _BOTTOM / height, 0.98, 1 - _BOTTOM / height)
    return draw(310, height, f"Mean ranks, {title}: {said}.", paint, name, position)


def _p(value: float) -> str:
    if np.isnan(value):
        return "undefined"
    return "below 0.001" if value < 0.001 else f"= {value:.3f}"
