"""What the rows of a table have in common, so that they can be compared: their budget."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dermino.ablation.tables import Row
from dermino.config import load_config
from dermino.errors import UserError
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.method import METHODS

# The network that is trained and the size of what it looks at.
_BACKBONE = {
    "model": ("architecture", "init", "model_args"),
    "views": ("global_size", "local_size"),
}
# Batch times steps are the images seen.
_BUDGET = (
    "batch_size_per_device",
    "seed",
    "precision",
    "workers",
    "checkpoint_every",
    "keep_checkpoints",
    "log_every",
    "monitor",
    "loggers",
)


def row_config(
    row: Row, recipe: str | Path, overrides: Sequence[str], steps: int
) -> PretrainConfig:
    """Return the recipe of a row with the budget that all rows have.

    Equal for all: backbone, starting weights, sizes of the views, images a step, steps, seed. A
    method with a shipped recipe of its own keeps that recipe's optimiser, schedules, crops and
    regularisation, since one method's learning rate is no fair one for another; methods that share
    a recipe (dermino and dinov2) differ in nothing but the method.

    Parameters
    ----------
    row:
        The row, of an installed method.
    recipe:
        The recipe that sets backbone and budget.
    overrides:
        The user's ``key=value`` changes, applied to every row.
    steps:
        Optimiser steps of every row.

    Raises
    ------
    UserError
        For a bad recipe, or a loss term that the row needs and the recipe weighs with zero.
    """
    shared = load_config(PretrainConfig, recipe, overrides)
    method = row.method or shared.method
    own = METHODS.get(method).recipe
    kin = own == METHODS.get(shared.method).recipe
    changes = [*overrides, *row.overrides, f"method={method}", f"steps={steps}"]
    config = load_config(PretrainConfig, recipe if kin else own, changes)
    if not kin:
        values, given = config.model_dump(), shared.model_dump()
        for section, keys in _BACKBONE.items():
            values[section] |= _pick(given[section], keys)
        config = PretrainConfig.model_validate(values | _pick(given, _BUDGET))
    _check_weights(row, config)
    return config


def _pick(values: dict[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    return {key: values[key] for key in keys}


def _check_weights(row: Row, config: PretrainConfig) -> None:
    """Refuse a row that names a loss term which has no weight in the recipe."""
    if row.method != "dermino":
        return
    for term in ("image", "patch", "koleo", "knowledge"):
        if getattr(config.loss, term) == 0 and f"loss.{term}=0" not in row.overrides:
            raise UserError(
                f"Row '{row.name}' needs the term loss.{term}, which the recipe sets to 0.",
                f"Give it a weight with --set loss.{term}=1, or choose another --recipe.",
            )
