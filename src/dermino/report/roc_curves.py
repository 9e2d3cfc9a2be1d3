"""ROC curves from the prediction files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import roc_auc_score, roc_curve

from dermino.report.exhibit import Exhibit, Panel
from dermino.report.figures import Series, roc
from dermino.report.results import scores
from dermino.report.style import Mark

MOST_CLASSES = 11
_GRID = np.linspace(0, 1, 201)


@dataclass(frozen=True)
class _Curve:
    x: np.ndarray
    y: np.ndarray
    area: float


def roc_exhibit(
    predictions: Mapping[str, pd.DataFrame],
    classes: Sequence[str],
    looks: Mapping[str, Mark],
    task: str,
    asked: str,
) -> Exhibit | None:
    """Draw the macro average and one class against the rest, all encoders in each panel.

    Parameters
    ----------
    predictions:
        The predictions of each encoder.
    classes:
        In the order to be shown. Of two classes only the second is drawn: the other curve is its
        mirror image. Of more than ``MOST_CLASSES`` those with most test images are drawn; the
        macro average is always over all.
    looks, task, asked:
        The look of each encoder; the task's name; the protocol as people call it.

    Returns
    -------
    Exhibit or None
        None if no class has both images and counter-examples.
    """
    by_encoder = {name: _one_vs_rest(frame, classes) for name, frame in predictions.items()}
    drawn = [name for name in classes if any(name in curves for curves in by_encoder.values())]
    if not drawn:
        return None
    first = next(iter(predictions.values()))
    counts = {name: int(_truth(first, name)[0].sum()) for name in classes}
    panels, areas = [], []
    if len(classes) == 2 and "unknown" not in first:
        drawn = drawn[-1:]
    else:
        macro = {name: _macro(curves) for name, curves in by_encoder.items() if curves}
        detail = f"mean of {len(drawn)} classes"
        panels.append(_panel("Macro average", detail, macro, looks, f"{task}-roc-macro"))
        areas += [("macro average", name, curve.area) for name, curve in macro.items()]
    for name, own in by_encoder.items():
        areas += [(label, name, own[label].area) for label in drawn if label in own]
    text = f"{asked}; each class against all others, with the area under the curve."
    if len(drawn) > MOST_CLASSES:
        text += " Only the classes with most test images are drawn; the average is over all."
        largest = sorted(drawn, key=lambda name: -counts[name])[:MOST_CLASSES]
        drawn = [name for name in drawn if name in largest]
    for index, label in enumerate(drawn):
        curves = {name: found[label] for name, found in by_encoder.items() if label in found}
        detail = f"{counts[label]:,} of {len(first):,} test images"
        panels.append(_panel(label, detail, curves, looks, f"{task}-roc-{index}"))
    numbers = pd.DataFrame(areas, columns=["class", "encoder", "value"])
    return Exhibit(
        f"{task}-roc", "ROC curves", text, numbers, panels, size="small", across="encoder"
    )


def _one_vs_rest(predictions: pd.DataFrame, classes: Sequence[str]) -> dict[str, _Curve]:
    given = scores(predictions)
    curves = {}
    for name in classes:
        if name not in given:
            continue
        positive, known = _truth(predictions, name)
        positive, score = positive[known], given[name].to_numpy()[known]
        if positive.all() or not positive.any():
            continue
        if not np.isfinite(score).all():
            continue
        false_positive, true_positive, _ = roc_curve(positive, score)
        curves[name] = _Curve(false_positive, true_positive, float(roc_auc_score(positive, score)))
    return curves


def _truth(predictions: pd.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return which images, shape (n,), are of a class, and of which that is known."""
    if "unknown" not in predictions:
        return (predictions["target"] == name).to_numpy(), np.ones(len(predictions), bool)
    present = np.array([name in labels for labels in predictions["target"]])
    return present, np.array([name not in labels for labels in predictions["unknown"]])


def _macro(curves: Mapping[str, _Curve]) -> _Curve:
    """Average sensitivities at equal specificity; the area is the mean of the classes' areas."""
    mean = np.mean([np.interp(_GRID, curve.x, curve.y) for curve in curves.values()], axis=0)
    area = float(np.mean([curve.area for curve in curves.values()]))
    return _Curve(np.concatenate([[0], _GRID]), np.concatenate([[0], mean]), area)


def _panel(
    title: str, detail: str, curves: Mapping[str, _Curve], looks: Mapping[str, Mark], name: str
) -> Panel:
    areas = [(encoder, f"{curve.area:.3f}") for encoder, curve in curves.items()]
    said = "; ".join(f"{encoder} {area}" for encoder, area in areas)
    series = [Series(encoder, curve.x, curve.y) for encoder, curve in curves.items()]
    alt = f"ROC curves, {title}. Area under the curve: {said}."
    return Panel(title, roc(series, looks, alt, name), detail, areas)
