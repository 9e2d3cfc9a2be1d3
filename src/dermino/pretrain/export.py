"""What a run leaves behind: the encoder, what it saw, and a page that sums it up."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from timm.models.vision_transformer import VisionTransformer

from dermino.data.manifest import Manifest
from dermino.files import atomic_path, write_text
from dermino.knowledge.encoded_labels import EncodedLabels
from dermino.models.encoder_file import FILE_NAME as ENCODER_FILE
from dermino.models.encoder_file import EncoderFile
from dermino.models.preprocess import Preprocess
from dermino.pretrain.backbone import model_args
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.metrics_log import read_metrics
from dermino.pretrain.plan import Plan

START_FILE = "start.safetensors"
SEEN_FILE = "seen.parquet"


def export_encoder(
    path: Path,
    vit: VisionTransformer,
    config: PretrainConfig,
    seen: dict[str, dict[str, int]] | None,
) -> None:
    """Write a backbone as a file that timm loads directly; ``seen`` None means unknown."""
    described = EncoderFile(
        architecture=config.model.architecture,
        model_args=model_args(config.model, config.views),
        preprocess=Preprocess.for_size(config.views.global_size),
        seen=seen,
    )
    described.write(path, vit.state_dict())


def seen_images(manifest: Manifest, labels: EncodedLabels | None, init: str | None) -> pa.Table:
    """Return which images a run trains on: ``dataset``, ``image``, ``labelled``, one row each.

    Where it starts from another run's encoder, that run's images are seen too.
    """
    labelled = labels.labelled if labels is not None else [False] * len(manifest)
    table = pa.table(
        {
            "dataset": manifest.table["dataset"],
            "image": manifest.table["image"],
            "labelled": pa.array(labelled, pa.bool_()),
        }
    )
    path = Path(init or "")
    earlier = (path.parent if path.name == ENCODER_FILE else path) / SEEN_FILE
    if init and earlier.is_file():
        table = pa.concat_tables([table, pq.read_table(earlier, schema=table.schema)])
    return table


def write_seen(run: Path, table: pa.Table) -> None:
    """Write what :func:`seen_images` returned."""
    with atomic_path(run / SEEN_FILE) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def write_summary(run: Path, plan: Plan) -> None:
    """Write ``summary.md``: the plan in words and how the losses moved."""
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
        names = [name for name in first if name not in {"step", "images_per_second"}]
        lines += [
            "",
            f"| | step {first['step']} | step {last['step']} |",
            "|---|---:|---:|",
            *(f"| {name} | {first[name]:.4g} | {last[name]:.4g} |" for name in names),
            "",
            f"Throughput at the end: {last['images_per_second']:.1f} images/s, "
            f"{100 * last['data_wait']:.1f} % of the time waiting for data.",
        ]
    lines += ["", "Research use only; not a medical device.", ""]
    write_text(run / "summary.md", "\n".join(lines))
