"""``encoder.safetensors``: weights in timm's names, with all that is needed to use them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from dermino.errors import UserError
from dermino.files import atomic_path
from dermino.models.preprocess import Preprocess

FILE_NAME = "encoder.safetensors"


@dataclass(frozen=True)
class EncoderFile:
    """What an encoder file says of itself.

    Parameters
    ----------
    architecture:
        Name of the timm model; ``timm.create_model(architecture, num_classes=0, **model_args,
        checkpoint_path=...)`` loads the file.
    model_args:
        timm arguments that differ from the model's defaults, such as ``img_size``.
    preprocess:
        The evaluation transform.
    seen:
        Images and labelled images of each dataset seen in pretraining; None = unknown.
    """

    architecture: str
    model_args: dict[str, Any] = field(default_factory=dict)
    preprocess: Preprocess = field(default_factory=Preprocess)
    seen: dict[str, Any] | None = None

    def write(self, path: str | Path, state: dict[str, torch.Tensor]) -> None:
        """Write weights and description, atomically."""
        metadata = {
            "format": "pt",
            "architecture": self.architecture,
            "model_args": json.dumps(self.model_args, sort_keys=True),
            "preprocess": json.dumps(self.preprocess.to_dict(), sort_keys=True),
            "seen": json.dumps(self.seen, sort_keys=True),
        }
        tensors = {key: value.detach().cpu().contiguous() for key, value in state.items()}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)

    @classmethod
    def read(cls, path: str | Path) -> EncoderFile | None:
        """Read the description; None for a safetensors file that has none."""
        metadata = read_metadata(Path(path))
        if "architecture" not in metadata:
            return None
        try:
            return cls(
                metadata["architecture"],
                json.loads(metadata.get("model_args", "{}")),
                Preprocess.from_dict(json.loads(metadata["preprocess"])),
                json.loads(metadata.get("seen", "null")),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"'{path}' names an architecture, but the rest of its description cannot be read: "
                f"{error!r}.",
                "Is it of a later dermino? Export it again.",
            ) from error


def read_metadata(path: Path) -> dict[str, str]:
    """Return the text header of a safetensors file."""
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"'{path}' is not a readable safetensors file: {error}.") from error
