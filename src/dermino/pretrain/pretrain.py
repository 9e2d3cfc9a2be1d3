"""``dermino pretrain``: from manifests to an encoder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dermino.config import load_config, save_config
from dermino.data.manifest import Manifest, read_manifests
from dermino.errors import UserError
from dermino.files import writable_folder, write_json
from dermino.knowledge.prototypes import initial_prototypes
from dermino.knowledge.taxonomy import Taxonomy
from dermino.models.encoder_file import FILE_NAME as ENCODER_FILE
from dermino.pretrain.backbone import build_backbone, seen_before
from dermino.pretrain.checkpoint import load_checkpoint
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.dataset import PretrainDataset
from dermino.pretrain.export import START_FILE, export_encoder, write_seen, write_summary
from dermino.pretrain.launch import build_fabric, resolve_precision
from dermino.pretrain.method import METHODS, Method
from dermino.pretrain.plan import make_plan
from dermino.pretrain.trainer import Trainer
from dermino.progress import console

# Enough to notice that a folder has moved without touching every file of a large archive.
_PROBED_IMAGES = 1000


def pretrain(
    data: Sequence[str | Path],
    out: str | Path,
    labels: str | Path | None = None,
    recipe: str | Path = "dermino-vitb14",
    overrides: Sequence[str] = (),
    splits: Sequence[str] | None = None,
    resume: bool = False,
) -> Path:
    """Pretrain an encoder on all images of some manifests.

    Parameters
    ----------
    data:
        Manifests; images with and without labels may be mixed.
    out:
        The run folder to write.
    labels:
        A taxonomy built by ``dermino labels build``; without one no label is used.
    recipe:
        Name of a shipped recipe, or a YAML file.
    overrides:
        ``section.key=value`` changes to the recipe.
    splits:
        Use only rows of these splits (``""`` = rows without one); default: all rows but ``test``.
    resume:
        Continue the run in ``out`` from its newest checkpoint; start it if there is none.

    Returns
    -------
    The exported encoder's path.

    Raises
    ------
    UserError
        For anything wrong with data, labels, recipe, weights or output, before the first step.
    """
    config = load_config(PretrainConfig, recipe, overrides)
    method_class = METHODS.get(config.method)
    run = _open_run(out, resume)
    manifest = _select(read_manifests(data), splits)
    _probe_images(manifest)
    taxonomy = Taxonomy.read(labels) if labels is not None else None
    encoded = taxonomy.encode(manifest) if taxonomy is not None else None
    if encoded is not None and not encoded.labelled.any():
        console.print("No image carries a label: training without supervision.")

    fabric = build_fabric(config)
    method = _build_method(method_class, config, taxonomy)
    plan, length = make_plan(
        config,
        manifest,
        encoded,
        method,
        fabric.world_size,
        resolve_precision(config, fabric.device.type),
    )
    dataset = PretrainDataset(
        manifest,
        config.views,
        config.masking,
        method.encoder.patch_embed.patch_size[0],
        plan.batch_size,
        config.seed,
    )
    trainer = Trainer(fabric, config, method, dataset, encoded, length, run)
    checkpoint = load_checkpoint(run) if resume else None
    if checkpoint is not None:
        trainer.load(checkpoint)
    if fabric.is_global_zero:
        plan.show()
        if checkpoint is not None:
            console.print(f"Resuming after step {trainer.step} of {length.steps}.")
        else:
            save_config(config, run / "config.yaml")
            write_json(run / "plan.json", plan.to_dict())
            write_seen(run, manifest, encoded, config.model.init)
            export_encoder(run / START_FILE, method.encoder, config, seen_before(config.model))
    trainer.train()
    if fabric.is_global_zero:
        seen = {**(seen_before(config.model) or {}), **plan.sources}
        export_encoder(run / ENCODER_FILE, method.encoder, config, seen)
        write_summary(run, plan)
        console.print(f"Encoder: {run / ENCODER_FILE}")
    fabric.barrier()
    return run / ENCODER_FILE


def _open_run(out: str | Path, resume: bool) -> Path:
    run = writable_folder(out)
    if not resume and (run / "config.yaml").exists():
        raise UserError(
            f"'{run}' already holds a run.", "Add --resume to continue it, or choose another --out."
        )
    return run


def _select(manifest: Manifest, splits: Sequence[str] | None) -> Manifest:
    """Keep the rows to train on; test rows stay out unless asked for by name."""
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


def _probe_images(manifest: Manifest) -> None:
    step = max(len(manifest) // _PROBED_IMAGES, 1)
    rows = range(0, len(manifest), step)
    missing = [row for row in rows if not manifest.path(row).is_file()]
    if not missing:
        return
    first = manifest.path(missing[0])
    if len(missing) == len(rows):
        raise UserError(
            f"None of the images can be found; the first one should be '{first}'.",
            "Have they moved? Import them again, or put the manifest back beside them.",
        )
    console.print(
        f"{len(missing)} of {len(rows)} images looked for are missing, '{first}' for one; "
        "others will be shown in their place. dermino data check lists them."
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
