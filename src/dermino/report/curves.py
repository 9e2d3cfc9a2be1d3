"""ROC curves from the prediction files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup
from sklearn.metrics import roc_auc_score, roc_curve

from dermino.report.figures import Series, roc
from dermino.report.results import scores
from dermino.report.style import Mark

MOST_CLASSES = 11
_GRID = np.linspace(0, 1, 201)


@dataclass(frozen=True)
class RocPanel:
    """The curves of one class, or their mean, with the area under the curve of each encoder."""

    title: str
    detail: str
    figure: Markup
    areas: list[tuple[str, float]]


@dataclass(frozen=True)
class _Curve:
    x: np.ndarray
    y: np.ndarray
    area: float


def roc_panels(
    predictions: Mapping[str, pd.DataFrame],
    classes: Sequence[str],
    looks: Mapping[str, Mark],
    task: str,
) -> list[RocPanel]:
    """Draw the macro average and one class against the rest, all encoders in each panel.

    Parameters
    ----------
    predictions:
        The predictions of each encoder.
    classes:
        In the order to be shown. Of two classes only the second is drawn: the other curve is its
        mirror image. Of more than ``MOST_CLASSES`` those with most test images are drawn; the
        macro average is always over all.
    looks, task:
        The look of each encoder; the task's name.

    Returns
    -------
    list[RocPanel]
        Empty if no class has both images and counter-examples.
    """
    by_encoder = {name: _one_vs_rest(frame, classes) for name, frame in predictions.items()}
    drawn = [name for name in classes if any(name in curves for curves in by_encoder.values())]
    if not drawn:
        return []
    counts = next(iter(predictions.values()))["target"].value_counts()
    panels = []
    if len(classes) == 2:
        drawn = drawn[-1:]
    else:
        macro = {name: _macro(curves) for name, curves in by_encoder.items() if curves}
        detail = f"mean of {len(drawn)} classes"
        panels.append(_panel("Macro average", detail, macro, looks, f"{task}-roc-macro"))
    if len(drawn) > MOST_CLASSES:
        largest = sorted(drawn, key=lambda name: -counts.get(name, 0))[:MOST_CLASSES]
        drawn = [name for name in drawn if name in largest]
    for index, label in enumerate(drawn):
        curves = {name: found[label] for name, found in by_encoder.items() if label in found}
        detail = f"{counts.get(label, 0):,} of {counts.sum():,} test images"
        panels.append(_panel(label, detail, curves, looks, f"{task}-roc-{index}"))
    return panels


def _one_vs_rest(predictions: pd.DataFrame, classes: Sequence[str]) -> dict[str, _Curve]:
    given = scores(predictions)
    curves = {}
    for name in classes:
        positive = (predictions["target"] == name).to_numpy()
        if name not in given or positive.all() or not positive.any():
            continue
        score = given[name].to_numpy()
        if not np.isfinite(score).all():
            continue
        false_positive, true_positive, _ = roc_curve(positive, score)
        curves[name] = _Curve(false_positive, true_positive, float(roc_auc_score(positive, score)))
    return curves


def _macro(curves: Mapping[str, _Curve]) -> _Curve:
    """Average sensitivities at equal specificity; the area is the mean of the classes' areas."""
    mean = np.mean([np.interp(_GRID, curve.x, curve.y) for curve in curves.values()], axis=0)
    area = float(np.mean([curve.area for curve in curves.values()]))
    return _Curve(np.concatenate([[0], _GRID]), np.concatenate([[0], mean]), area)


def _panel(
    title: str, detail: str, curves: Mapping[str, _Curve], looks: Mapping[str, Mark], name: str
) -> RocPanel:
    areas = [(encoder, curve.area) for encoder, curve in curves.items()]
    said = "; ".join(f"{encoder} {area:.3f}" for encoder, area in areas)
    series = [Series(encoder, curve.x, curve.y) for encoder, curve in curves.items()]
    alt = f"ROC curves, {title}. Area under the curve: {said}."
    return RocPanel(title, detail, roc(series, looks, alt, name), areas)
