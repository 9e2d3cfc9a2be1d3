"""Any batch of a run again, from its step: to see what a skipped step was about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq
from timm.models.vision_transformer import VisionTransformer

from dermino.config import load_config
from dermino.data.manifest import read_manifests
from dermino.errors import UserError
from dermino.knowledge.taxonomy import Taxonomy
from dermino.models.load import create_backbone
from dermino.pretrain.backbone import model_args
from dermino.pretrain.batch import Batch, Collate
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.dataset import PretrainDataset
from dermino.pretrain.export import SEEN_FILE
from dermino.pretrain.method import METHODS
from dermino.pretrain.monitors.held_out import hold_out
from dermino.pretrain.plan import FILE_NAME as PLAN_FILE
from dermino.pretrain.pretrain import INPUTS_FILE, TAXONOMY_FOLDER, select
from dermino.pretrain.resume import CONFIG_FILE


def replay(run: str | Path, step: int, part: int = 0) -> Batch:
    """Return the batch of a step as the run's method saw it, of all processes together.

    Random numbers depend on the place in the run only, so no other step has to be repeated.

    Parameters
    ----------
    run:
        A run folder; its manifests must be where they were.
    step:
        The step, counted from 1 as in ``metrics.jsonl`` and ``nonfinite.jsonl``.
    part:
        Which of its batches, counted from 0, where gradients are accumulated over several.

    Raises
    ------
    UserError
        If the run has no such step, or its files have changed.
    """
    run = Path(run)
    try:
        inputs = json.loads((run / INPUTS_FILE).read_text(encoding="utf-8"))
        plan = json.loads((run / PLAN_FILE).read_text(encoding="utf-8"))
        seen = pq.read_table(run / SEEN_FILE, columns=["dataset", "image"])
    except (OSError, ValueError) as error:
        raise UserError(
            f"'{run}' cannot be replayed: {error}.", "Name the folder of a run that has begun."
        ) from error
    if not 1 <= step <= plan["steps"]:
        raise UserError(f"'{run}' has no step {step}.", f"Its steps are 1 to {plan['steps']}.")
    parts = plan.get("accumulate_grad_batches", 1)
    if not 0 <= part < parts:
        raise UserError(f"A step has no batch {part}.", f"Its batches are 0 to {parts - 1}.")
    config = load_config(PretrainConfig, run / CONFIG_FILE)
    images = read_manifests(inputs["data"])
    held_out = hold_out(images, inputs["splits"], config.monitor, config.seed)
    manifest = select(images.select(~held_out.taken_out), inputs["splits"])
    listed = pa.table({"dataset": manifest.table["dataset"], "image": manifest.original_images})
    if not listed.equals(seen.slice(0, len(manifest))):
        raise UserError(
            "The manifests list other images than when the run began.",
            f"They are named in '{run / INPUTS_FILE}'; put the old ones back.",
        )
    encoded = None
    if (run / TAXONOMY_FOLDER).is_dir():
        taxonomy = Taxonomy.read(run / TAXONOMY_FOLDER)
        encoded = taxonomy.encode(manifest, config.prototypes.certainty)
    arguments = model_args(config.model, config.views)
    backbone = cast(VisionTransformer, create_backbone(config.model.architecture, **arguments))
    dataset = PretrainDataset(
        manifest,
        METHODS.get(config.method).views(config),
        backbone.patch_embed.patch_size[0],
        plan["batch_size"] // parts,
        config.seed,
        config.data,
    )
    first = ((step - 1) * parts + part) * dataset.batch_size
    positions = range(first, first + dataset.batch_size)
    return Collate(encoded)([dataset[position] for position in positions]).augmented()
