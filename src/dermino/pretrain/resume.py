"""What must be the same for a run to be taken up again, lest its weights belong to no recipe."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dermino.config import flat, load_config
from dermino.errors import UserError
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.export import SEEN_FILE
from dermino.pretrain.plan import FILE_NAME as PLAN_FILE

CONFIG_FILE = "config.yaml"
# How a run is carried out, not what is learnt; the batch over all devices is compared instead.
_FREE = frozenset(
    {
        "workers",
        "checkpoint_every",
        "keep_checkpoints",
        "data.cache",
        "data.cache_gib",
        "log_every",
        "batch_size_per_device",
        "monitor.every",
        "monitor.knn_images",
        "loggers",
        "strategy",
        "compile",
        "model.checkpoint_activations",
    }
)
_COMPARED = ("batch_size", "taxonomy")


def keep_batch_size(run: Path, config: PretrainConfig, devices: int) -> PretrainConfig:
    """Divide the batch of a run that has begun over the devices there are now.

    So the run learns the same from as many images a step. A recipe that asks for another number of
    images than the one the run began with stays as it is.

    Raises
    ------
    UserError
        If the batch cannot be divided.
    """
    try:
        stored = _stored_plan(run)
        begun = load_config(PretrainConfig, run / CONFIG_FILE)
    except UserError:
        return config  # The run has not begun, or cannot be resumed, which is said later.
    if config.batch_size_per_device not in ("auto", begun.batch_size_per_device):
        return config
    parts = devices * begun.accumulate_grad_batches
    size, rest = divmod(stored["batch_size"], parts)
    if rest or not size:
        raise UserError(
            f"The run in '{run}' has a batch of {stored['batch_size']} images, which cannot be "
            f"divided over {devices} devices"
            + (f" x {begun.accumulate_grad_batches} accumulated." if parts > devices else "."),
            "Resume with a number of devices that divides it.",
        )
    return config.model_copy(update={"batch_size_per_device": size})


def refuse_another_run(
    run: Path, config: PretrainConfig, plan: Mapping[str, Any], seen: pa.Table
) -> None:
    """Check that the run in a folder is the one that is asked for.

    Parameters
    ----------
    run:
        The run folder, with the files of its start.
    config, plan, seen:
        What is asked for now; of ``plan`` the values of ``batch_size`` and ``taxonomy``, and
        ``seen`` as :func:`dermino.pretrain.export.seen_images` gives it.

    Raises
    ------
    UserError
        Naming every value that differs.
    """
    stored = _stored_plan(run)
    try:
        same_images = pq.read_table(run / SEEN_FILE).equals(seen)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors.
        raise _damaged(run, SEEN_FILE, str(error)) from error
    changed = _differences(load_config(PretrainConfig, run / CONFIG_FILE), config)
    changed += [
        f"{key}: {stored[key]} then, {plan[key]} now"
        for key in _COMPARED
        if key in stored and stored[key] != plan[key]
    ]
    if not same_images:
        changed.append("other images, or others of them are labelled")
    if changed:
        raise UserError(
            "\n".join([f"'{run}' was started with something else:", *changed]),
            f"Resume with --recipe '{run / CONFIG_FILE}' and the same --data, --labels and "
            "--split, or choose another --out.",
        )


def _stored_plan(run: Path) -> Mapping[str, Any]:
    try:
        plan = json.loads((run / PLAN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(run, PLAN_FILE, str(error)) from error
    if not isinstance(plan, dict) or type(plan.get("batch_size")) is not int:
        raise _damaged(run, PLAN_FILE, "it has no batch_size")
    return plan


def _damaged(run: Path, name: str, reason: str) -> UserError:
    return UserError(
        f"The run in '{run}' cannot be resumed, {name} cannot be read: {reason}.",
        "Put that file back as it was, or start again with another --out.",
    )


def _differences(begun: PretrainConfig, config: PretrainConfig) -> list[str]:
    before, now = flat(begun.model_dump()), flat(config.model_dump())
    return [
        f"{key}: {before.get(key)} then, {now.get(key)} now"
        for key in sorted((before.keys() | now.keys()) - _FREE)
        if before.get(key) != now.get(key)
    ]
