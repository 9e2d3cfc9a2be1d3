"""``dermino pretrain``: from manifests to an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from dermino.config import load_config, save_config
from dermino.data.images import UnreadableImage, read_image
from dermino.data.manifest import Manifest, read_manifests
from dermino.data.reference import exists
from dermino.data.schema import SPLITS
from dermino.data.shard_cache import reader
from dermino.errors import UserError, unknown
from dermino.files import sole_writer, writable_folder, write_json
from dermino.knowledge.load import load_taxonomy
from dermino.knowledge.prototypes import initial_prototypes
from dermino.knowledge.taxonomy import Taxonomy
from dermino.models.encoder_file import FILE_NAME as ENCODER_FILE
from dermino.pretrain.agreement import failing_together
from dermino.pretrain.backbone import build_backbone, seen_before
from dermino.pretrain.batch_size import settle_batch_size
from dermino.pretrain.checkpoint import load_checkpoint
from dermino.pretrain.config import DataConfig, PretrainConfig
from dermino.pretrain.dataset import REPLACEMENTS, PretrainDataset
from dermino.pretrain.export import START_FILE, export_encoder, seen_images, write_seen
from dermino.pretrain.launch import build_fabric, resolve_precision
from dermino.pretrain.logger import require_loggers
from dermino.pretrain.method import METHODS, Method
from dermino.pretrain.monitors.held_out import hold_out
from dermino.pretrain.plan import FILE_NAME as PLAN_FILE
from dermino.pretrain.plan import Plan, make_plan
from dermino.pretrain.resume import CONFIG_FILE, keep_batch_size, refuse_another_run
from dermino.pretrain.sharding import whole
from dermino.pretrain.summary import write_summary
from dermino.pretrain.trainer import Trainer
from dermino.progress import console

INPUTS_FILE = "inputs.json"
TAXONOMY_FOLDER = "taxonomy"
# Enough to notice that a folder has moved without touching every file of a large archive.
_PROBED_IMAGES = 1000


def pretrain(
    data: Sequence[str | Path],
    out: str | Path,
    labels: str | Path | None = None,
    recipe: str | Path | None = None,
    overrides: Sequence[str] = (),
    splits: Sequence[str] | None = None,
    resume: bool = False,
    method: str | None = None,
) -> Path:
    """Pretrain an encoder on all images of some manifests.

    Parameters
    ----------
    data:
        Manifests; images with and without labels may be mixed.
    out:
        The run folder to write.
    labels:
        A taxonomy built by ``dermino labels build``, or ``public``, the shipped one; without one
        no label is used.
    recipe:
        Name of a shipped recipe, or a YAML file. None takes the method's own.
    overrides:
        ``section.key=value`` changes to the recipe.
    splits:
        Use only rows of these splits (``""`` = rows without one); default: all rows but ``test``.
    resume:
        Continue the run in ``out`` from its newest checkpoint; start it if there is none.
    method:
        ``dermino``, ``dinov2``, ``mae``, ``mocov3``, ``swav`` or ``panderm``; None leaves it to
        the recipe.

    Returns
    -------
    The exported encoder's path.

    Raises
    ------
    UserError
        For anything wrong with data, labels, recipe, weights or output, before the first step.
    """
    config = _load_config(recipe, overrides, method)
    method_class = METHODS.get(config.method)
    require_loggers(config.loggers)
    run = _open_run(out, resume)
    images = read_manifests(data)
    held_out = hold_out(images, splits, config.monitor, config.seed)
    manifest = select(images.select(~held_out.taken_out), splits)
    _probe_images(manifest, config.data)
    taxonomy = load_taxonomy(labels, manifest) if labels is not None else None
    if taxonomy is not None and not method_class.uses_labels:
        console.print(f"{config.method} learns from images alone: the labels are left aside.")
        taxonomy = None
    certainty = config.prototypes.certainty
    encoded = taxonomy.encode(manifest, certainty) if taxonomy is not None else None
    if encoded is not None and not encoded.labelled.any():
        console.print("No image carries a label: training without supervision.")

    fabric = build_fabric(config)
    model = _build_method(method_class, config, taxonomy)
    if resume:
        config = keep_batch_size(run, config, fabric.world_size)
    config = settle_batch_size(config, fabric, model, len(manifest))
    plan, length = make_plan(
        config,
        manifest,
        encoded,
        taxonomy,
        model,
        fabric.world_size,
        resolve_precision(config, fabric.device.type),
        held_out.describe(),
    )
    dataset = PretrainDataset(
        manifest,
        model.views(config),
        model.encoder.patch_embed.patch_size[0],
        plan.batch_size // config.accumulate_grad_batches,
        config.seed,
        config.data,
    )
    trainer = Trainer(fabric, config, model, dataset, encoded, length, run, held_out)
    seen = seen_images(manifest, encoded, config.model.init)
    with ExitStack() as stack:
        with failing_together(fabric.device):
            if fabric.is_global_zero:
                stack.enter_context(sole_writer(run))
        _start(trainer, plan, seen, _describe_inputs(data, labels, splits), taxonomy, resume)
        trainer.train()
        _export(trainer, plan)
    return run / ENCODER_FILE


def _start(
    trainer: Trainer,
    plan: Plan,
    images: pa.Table,
    inputs: dict[str, Any],
    taxonomy: Taxonomy | None,
    resume: bool,
) -> None:
    """Show the plan, and take the run up where it is or write down what it starts from."""
    run, config, fabric = trainer.run, trainer.config, trainer.fabric
    checkpoint = load_checkpoint(run) if resume else None
    if checkpoint is not None:
        refuse_another_run(run, config, plan.to_dict(), images)
        trainer.load(checkpoint)
    if fabric.is_global_zero:
        plan.show()
        if trainer.step == plan.steps:
            console.print(f"This run has finished: all {plan.steps} steps are done.")
        elif checkpoint is not None:
            console.print(f"Resuming after step {trainer.step} of {plan.steps}.")
    if checkpoint is not None:
        return
    encoder = whole(trainer.method.encoder.state_dict())
    with failing_together(fabric.device):
        if fabric.is_global_zero:
            save_config(config, run / CONFIG_FILE)
            write_json(run / PLAN_FILE, plan.to_dict())
            write_json(run / INPUTS_FILE, inputs)
            if taxonomy is not None:
                taxonomy.write(run / TAXONOMY_FOLDER)
            write_seen(run, images)
            export_encoder(run / START_FILE, encoder, config, seen_before(config.model))


def _export(trainer: Trainer, plan: Plan) -> None:
    """Write what the run has made."""
    encoder = whole(trainer.method.encoder.state_dict())
    with failing_together(trainer.fabric.device):
        if trainer.fabric.is_global_zero:
            run, config = trainer.run, trainer.config
            seen = {**(seen_before(config.model) or {}), **plan.sources}
            export_encoder(run / ENCODER_FILE, encoder, config, seen)
            write_summary(run, plan)
            console.print(f"Encoder: {run / ENCODER_FILE}")


def _load_config(
    recipe: str | Path | None, overrides: Sequence[str], method: str | None
) -> PretrainConfig:
    chosen = [f"method={method}"] if method is not None else []
    if recipe is None:
        recipe = METHODS.get(method or PretrainConfig().method).recipe
    return load_config(PretrainConfig, recipe, [*chosen, *overrides])


def _open_run(out: str | Path, resume: bool) -> Path:
    run = writable_folder(out)
    if not resume and (run / CONFIG_FILE).exists():
        raise UserError(
            f"'{run}' already holds a run.", "Add --resume to continue it, or choose another --out."
        )
    return run


def _describe_inputs(
    data: Sequence[str | Path], labels: str | Path | None, splits: Sequence[str] | None
) -> dict[str, Any]:
    """Return where everything a run reads lies, so that it can be read again."""
    if labels is not None and Path(labels).is_dir():
        labels = Path(labels).resolve()
    return {
        "data": [str(Path(path).resolve()) for path in data],
        "labels": str(labels) if labels is not None else None,
        "splits": list(splits) if splits is not None else None,
    }


def select(manifest: Manifest, splits: Sequence[str] | None) -> Manifest:
    """Keep the rows to train on; test rows stay out unless asked for by name."""
    for name in splits or ():
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
    column = np.asarray(manifest.table["split"].to_pylist(), dtype=object)
    chosen = np.isin(column, list(splits)) if splits is not None else column != "test"
    left_out = len(manifest) - int(chosen.sum())
    if not chosen.any():
        raise UserError(
            "No image is left to train on.", "Check --split and the manifests' split column."
        )
    if left_out:
        console.print(f"{left_out:,} images of other splits are left out.")
    return manifest.select(chosen) if left_out else manifest


def _probe_images(manifest: Manifest, options: DataConfig) -> None:
    step = max(len(manifest) // _PROBED_IMAGES, 1)
    rows = range(0, len(manifest), step)
    paths = [manifest.path(row) for row in rows]
    missing = [path for path in paths if not exists(path)]
    if len(missing) == len(paths):
        raise UserError(
            f"None of the images can be found; the first one should be '{paths[0]}'.",
            "Have they moved? Import them again, or put the manifest back beside them.",
        )
    if missing:
        console.print(
            f"{len(missing)} of {len(paths)} images looked for are missing, '{missing[0]}' for "
            "one; others will be shown in their place. dermino data check lists them."
        )
    tried = [path for path in paths if exists(path)][:REPLACEMENTS]
    read = reader(options.cache, options.cache_gib)
    for path in tried:
        try:
            read_image(path, reader=read)
            return
        except UnreadableImage as error:
            reason = error.message
    raise UserError(
        f"None of {len(tried)} images looked at can be read. {reason}",
        "Run dermino data check and train on what it leaves.",
    )


def _build_method(
    method_class: type[Method], config: PretrainConfig, taxonomy: Taxonomy | None
) -> Method:
    backbone = build_backbone(config.model, config.views, config.seed)
    prototypes = None
    if taxonomy is not None:
        initial = initial_prototypes(taxonomy, backbone.embed_dim, config.seed)
        prototypes = torch.from_numpy(initial)
        if config.prototypes.initial == "random":
            torch.manual_seed(config.seed)
            prototypes = torch.nn.functional.normalize(torch.randn_like(prototypes), dim=1)
    torch.manual_seed(config.seed)
    return method_class(config, backbone, prototypes)
