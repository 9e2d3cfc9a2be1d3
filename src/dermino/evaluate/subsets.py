"""Parts of the training rows: nested, drawn with a seed, classes and patients considered."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pandas as pd

from dermino.evaluate.protocol import Trial
from dermino.evaluate.task import GROUPS, Task, group_names

_PANDERM_SEED = 42


def stratified_order(task: Task, seed: int, draw: int) -> tuple[np.ndarray, np.ndarray]:
    """Order the training rows so that every beginning is a stratified sample.

    A patient's (else a lesion's) rows follow one another within a class. A row's share is the part
    of its class that lies before the group it belongs to; the rows with a share below s are the
    sample of size s. Samples of one draw are nested, hold every class, keep groups whole within a
    class, and exceed s of a class by less than one group.

    Parameters
    ----------
    task:
        Its training rows are ordered.
    seed, draw:
        Equal ones give equal orders.

    Returns
    -------
    tuple of np.ndarray
        Row numbers (m,) int64, and their shares (m,) float64, ascending, from 0 to below 1.
    """
    random = np.random.default_rng([seed, draw])
    rows = task.rows("train")
    strata, groups = _strata(task)[rows], _groups(task)[rows]
    priority = random.permutation(groups.max() + 1 if len(groups) else 0)
    shares = np.empty(len(rows))
    for stratum in np.unique(strata):
        mine = np.flatnonzero(strata == stratum)
        mine = mine[np.argsort(priority[groups[mine]], kind="stable")]
        _, first, group = np.unique(priority[groups[mine]], return_index=True, return_inverse=True)
        shares[mine] = first[group.reshape(-1)] / len(mine)
    # Among equal shares the same random order of groups decides, so that ties favour no class.
    order = np.lexsort((priority[groups], shares))
    return rows[order], shares[order]


def panderm_order(task: Task, draw: int) -> np.ndarray:
    """Order the training rows as PanDerm does: pandas' sample with seed 42, classes ignored."""
    rows = pd.Series(task.rows("train"))
    return rows.sample(frac=1, random_state=_PANDERM_SEED + draw).to_numpy()


def few_shot_rows(task: Task, k: int, seed: int, draw: int) -> np.ndarray:
    """Draw k training rows of each class, from as many patients (else lesions) as possible.

    Parameters
    ----------
    task:
        With one class an image.
    k:
        Rows of each class; all of them where there are fewer.
    seed, draw:
        Equal ones give nested samples for rising k.

    Returns
    -------
    np.ndarray
        Row numbers, ascending.
    """
    random = np.random.default_rng([seed, draw])
    rows = random.permutation(task.rows("train"))
    targets, groups = task.targets[rows], pd.Series(_groups(task)[rows])
    chosen = []
    for code in range(len(task.classes)):
        mine = np.flatnonzero(targets == code)
        turn = groups.iloc[mine].groupby(groups.iloc[mine]).cumcount().to_numpy()
        chosen.append(rows[mine[np.argsort(turn, kind="stable")][:k]])
    return np.sort(np.concatenate(chosen))


def learn_from(trial: Trial, rows: np.ndarray) -> Trial:
    """Return the trial with these training rows and no validation rows.

    Labels of validation rows would be labels too: a probe that needs some takes them from the
    training rows it is given.
    """
    task = trial.task
    keep = np.zeros(len(task.targets), bool)
    keep[rows] = True
    keep[task.rows("test")] = True
    parts = np.where(keep, np.array(task.manifest.column("split"), object), "")
    return replace(
        trial, task=replace(task, manifest=task.manifest.with_columns(split=parts.tolist()))
    )


def whole(percent: float, n: int) -> int:
    """Return ``percent`` of n rows, rounded down, exactly for shares such as 0.1."""
    return int(Fraction(str(percent)) * n / 100)


def _strata(task: Task) -> np.ndarray:
    """Number each row's class; of several labels, the rarest it has; of a number, its quartile."""
    if task.kind == "multilabel":
        present = task.targets == 1
        frequency = present[task.rows("train")].sum(axis=0)
        rarest = np.where(present, frequency, np.iinfo(np.int64).max).argmin(axis=1)
        return np.where(present.any(axis=1), rarest, present.shape[1])
    if task.kind == "regression":
        return np.digitize(
            task.targets, np.quantile(task.targets[task.rows("train")], [0.25, 0.5, 0.75])
        )
    return task.targets


def _groups(task: Task) -> np.ndarray:
    """Number each row's patient, else its lesion, else itself."""
    names = list[object](range(len(task.targets)))
    for column in GROUPS:
        known = group_names(task.manifest, column)
        if any(name is not None for name in known):
            names = [row if name is None else name for row, name in enumerate(known)]
            break
    return pd.factorize(pd.Series(names, dtype=object))[0]
