"""Names through a transformers model: tokens, pooling, vectors of length one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dermino.errors import UserError
from dermino.knowledge.text_encoders import Transformer, is_cached
from dermino.progress import track

_DECIMALS = 6


class TransformerText:
    """A text encoder read from a hub or a folder.

    Parameters
    ----------
    name:
        What the taxonomy records.
    spec:
        Pooling and lengths.
    location:
        Hub id or folder.

    Raises
    ------
    UserError
        If the weights cannot be had, are incomplete, or lack the pooler that ``spec`` asks for.
    """

    def __init__(self, name: str, spec: Transformer, location: str) -> None:
        self.name = name
        self.spec = spec
        self._tokenizer, self._model = _load(name, spec, location)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return (n, D) float32 rows of length 1.

        Each text goes through alone, on one CPU thread, and the result is rounded: a batch would
        let the padding and the matrix kernels chosen for its shape change the last bits.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            rows = [self._embed(text) for text in track(texts, "Embedding names")]
        finally:
            torch.set_num_threads(threads)
        vectors = np.stack(rows).astype(np.float64)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.round(vectors, _DECIMALS).astype(np.float32)

    @torch.inference_mode()
    def _embed(self, text: str) -> np.ndarray:
        length = self.spec.pad_to
        tokens = self._tokenizer(
            text,
            truncation=True,
            max_length=self.spec.max_length,
            padding="max_length" if length else False,
            return_tensors="pt",
        )
        mask = tokens["attention_mask"]
        if length:
            output = self._model(tokens["input_ids"])
        else:
            output = self._model(tokens["input_ids"], attention_mask=mask)
        if self.spec.pooling == "pooler":
            vector = output.pooler_output[0]
        elif self.spec.pooling == "cls":
            vector = output.last_hidden_state[0, 0]
        else:
            vector = output.last_hidden_state[0][mask[0].bool()].mean(dim=0)
        return vector.float().numpy()


def _load(name: str, spec: Transformer, location: str) -> tuple[Any, Any]:
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    if not Path(location).is_dir():
        _need_hub(name, spec, location)
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(location)
        model, report = AutoModel.from_pretrained(
            location, output_loading_info=True, weights_only=True
        )
    except (OSError, ValueError) as error:
        raise _unavailable(name, spec, location, error) from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    missing = {str(key) for key in report["missing_keys"]}
    pooler = {key for key in missing if key.startswith("pooler.")}
    if spec.pooling == "pooler" and (pooler or getattr(model, "pooler", None) is None):
        raise UserError(
            f"The weights of the text encoder '{name}' hold no pooler, so its output would be "
            "random.",
            "Use a checkpoint saved with its pooler, or --pooling cls or mean.",
        )
    if missing - pooler:
        raise UserError(
            f"The weights of the text encoder '{name}' lack {len(missing - pooler)} tensors, "
            f"the first is '{min(missing - pooler)}'.",
            "The file is incomplete or belongs to another architecture: fetch it again.",
        )
    return tokenizer, model.float().eval()


def _need_hub(name: str, spec: Transformer, location: str) -> None:
    """Ask the hub once for a model not yet here; transformers would retry for a minute."""
    from huggingface_hub import model_info

    try:
        if not is_cached(location):
            model_info(location, timeout=10)
    except Exception as error:  # The hub's versions raise errors of three HTTP libraries.
        raise _unavailable(name, spec, location, error) from error


def _unavailable(name: str, spec: Transformer, location: str, error: Exception) -> UserError:
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if Path(location).is_dir():
        return UserError(
            f"The folder '{location}' is not a transformers model: {first_line}",
            "It needs config.json, the tokenizer's files and model.safetensors.",
        )
    return UserError(
        f"The text encoder '{name}' ({location}) is not on this machine and cannot be fetched: "
        f"{first_line}",
        f"Where there is a network: hf download {location} --local-dir FOLDER; then give "
        f"--text-encoder FOLDER --pooling {spec.pooling}. Without one: --text-encoder "
        "minilm or char-ngrams.",
    )
