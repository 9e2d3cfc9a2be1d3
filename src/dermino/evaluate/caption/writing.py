"""Writing captions batch by batch, going on after an interruption."""

from __future__ import annotations

import json
import time
from pathlib import Path

from torch import Tensor

from dermino.evaluate.caption.captioner import Captioner
from dermino.files import write_json
from dermino.progress import track

_SECONDS_BETWEEN_FILES = 30.0


def write_captions(
    captioner: Captioner,
    features: Tensor,
    longest: int,
    beams: int,
    batch_size: int,
    kept: Path | None,
) -> list[str]:
    """Return a caption for each image.

    Parameters
    ----------
    captioner:
        Trained.
    features:
        (n, D) float32, on the device.
    longest, beams:
        As :meth:`Captioner.write` takes them.
    batch_size:
        Images at once.
    kept:
        File of the captions already written; None: keep nothing.
    """
    texts: list[str] = []
    if kept is not None and kept.exists():
        texts = json.loads(kept.read_text(encoding="utf-8"))
    saved = time.monotonic()
    # Batches keep their members after an interruption: rounding may depend on who shares one.
    batches = features.split(batch_size)[-(-len(texts) // batch_size) :]
    for batch in track(batches, f"Captions, batches of {batch_size}"):
        texts += captioner.write(batch, longest, beams)
        if kept is not None and time.monotonic() - saved > _SECONDS_BETWEEN_FILES:
            write_json(kept, texts)
            saved = time.monotonic()
    return texts
