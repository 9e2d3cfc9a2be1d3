"""What a run leaves behind: the encoder, and which images it saw."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from dermino.data.identity import image_names
from dermino.data.manifest import Manifest
from dermino.files import atomic_path
from dermino.knowledge.encoded_labels import EncodedLabels
from dermino.models.encoder_file import FILE_NAME as ENCODER_FILE
from dermino.models.encoder_file import EncoderFile
from dermino.models.preprocess import Preprocess
from dermino.pretrain.backbone import model_args
from dermino.pretrain.config import PretrainConfig

START_FILE = "start.safetensors"
SEEN_FILE = "seen.parquet"


def export_encoder(
    path: Path,
    state: Mapping[str, torch.Tensor],
    config: PretrainConfig,
    seen: dict[str, dict[str, int]] | None,
) -> None:
    """Write a backbone's tensors as a file that timm loads directly; ``seen`` None means unknown.

    Sharded ones have to be made whole before.
    """
    described = EncoderFile(
        architecture=config.model.architecture,
        model_args=model_args(config.model, config.views),
        preprocess=Preprocess.for_size(config.views.global_size),
        seen=seen,
    )
    described.write(path, dict(state))


def seen_images(manifest: Manifest, labels: EncodedLabels | None, init: str | None) -> pa.Table:
    """Return which images a run trains on: their names and ``labelled``, one row each.

    The names are those of :func:`dermino.data.identity.image_names`.
    Where it starts from another run's encoder, that run's images are seen too.
    """
    labelled = labels.labelled if labels is not None else [False] * len(manifest)
    table = image_names(manifest).append_column("labelled", pa.array(labelled, pa.bool_()))
    path = Path(init or "")
    earlier = (path.parent if path.name == ENCODER_FILE else path) / SEEN_FILE
    if init and earlier.is_file():
        table = pa.concat_tables([table, pq.read_table(earlier, schema=table.schema)])
    return table


def write_seen(run: Path, table: pa.Table) -> None:
    """Write what :func:`seen_images` returned."""
    with atomic_path(run / SEEN_FILE) as temporary:
        pq.write_table(table, temporary, compression="zstd")
