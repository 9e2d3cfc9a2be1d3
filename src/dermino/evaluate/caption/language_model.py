"""Causal language models of transformers: found and loaded safely."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch

from dermino.errors import UserError
from dermino.models.hub import fetch
from dermino.progress import console

Precision = Literal["auto", "float32", "bfloat16", "4bit"]

_PACKAGES = ("transformers", "peft", "nltk", "rouge_score", "pycocoevalcap")
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_HASHED = {".safetensors", ".gguf", ".bin", ".json", ".jinja", ".model", ".txt"}
_BLOCK = 2**22  # bytes
# Beside its weights, training keeps activations, the projector and its optimiser's moments.
_ROOM = 1.5


@dataclass(frozen=True)
class Location:
    """Where a language model comes from.

    Parameters
    ----------
    source:
        A folder, or an id of the Hugging Face hub.
    gguf_file:
        The file in it that holds everything; empty for safetensors with their config.
    """

    source: str
    gguf_file: str = ""

    @classmethod
    def parse(cls, spec: str) -> Location:
        """Read ``ID_OR_FOLDER``, ``ID_OR_FOLDER#FILE.gguf`` or ``PATH/FILE.gguf``."""
        source, _, file = spec.partition("#")
        path = Path(source)
        if not file and path.suffix == ".gguf":
            return cls(str(path.parent), path.name)
        return cls(source, file)

    @property
    def is_folder(self) -> bool:
        """Whether it lies on this machine as files of the user's."""
        return Path(self.source).is_dir()

    @property
    def options(self) -> dict[str, Any]:
        """What all of transformers' loaders must be told of it."""
        return {"gguf_file": self.gguf_file} if self.gguf_file else {}

    def digest(self) -> str:
        """Hash the files of a folder, so that other weights are another trial; empty for ids."""
        if not self.is_folder:
            return ""
        folder = Path(self.source)
        chosen = [folder / self.gguf_file] if self.gguf_file else sorted(folder.iterdir())
        whole = hashlib.blake2b(digest_size=16)
        for path in chosen:
            if path.suffix in _HASHED and path.is_file():
                told = path.stat()
                whole.update(
                    f"{path.name} {_file_digest(path, told.st_size, told.st_mtime_ns)}".encode()
                )
        return whole.hexdigest()


@lru_cache
def _file_digest(path: Path, size: int, modified: int) -> str:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def check_folder(location: Location) -> None:
    """Prove that a folder holds a language model; ids of the hub are asked for when loading.

    Raises
    ------
    UserError
        If it holds none.
    """
    wanted = location.gguf_file or "config.json"
    if location.is_folder and not (Path(location.source) / wanted).is_file():
        raise UserError(
            f"The folder '{location.source}' holds no language model: '{wanted}' is missing.",
            "Name a folder written by save_pretrained, or FOLDER#FILE.gguf.",
        )


def load_language_model(
    location: Location, precision: Precision, device: torch.device
) -> tuple[Any, Any]:
    """Load a model and its tokeniser; nothing is unpickled and no code of the model's is run.

    Parameters
    ----------
    location:
        Which.
    precision:
        ``auto`` is float32 on a CPU; on a GPU bfloat16, or 4 bits where bfloat16 does not fit.
    device:
        Where to put it.

    Returns
    -------
    tuple
        The model, frozen, and its tokeniser.

    Raises
    ------
    UserError
        If a package is missing, the model cannot be had, its weights are incomplete, or the
        precision is not possible here.
    """
    check_reachable(location)
    with _quiet():
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        config = _read(location, AutoConfig)
        tokeniser = _read(location, AutoTokenizer)
        chosen, reason = _choose_precision(precision, config, location, device)
        dtype = torch.float32 if chosen == "float32" else torch.bfloat16
        options: dict[str, Any] = {"torch_dtype": dtype}
        if chosen == "4bit":
            options |= _four_bits(device)
        model, report = _read(
            location,
            AutoModelForCausalLM,
            output_loading_info=True,
            weights_only=True,
            **options,
        )
    if report["missing_keys"]:
        raise UserError(
            f"The {_named(location)} lacks {len(report['missing_keys'])} weights, the first is "
            f"'{min(report['missing_keys'])}'.",
            "The files are incomplete or belong to another architecture: fetch them again.",
        )
    if tokeniser.eos_token_id is None:
        raise UserError(
            f"The {_named(location)} has no token that ends a text.",
            "Set eos_token in its tokenizer_config.json.",
        )
    if chosen == "4bit":
        from peft import prepare_model_for_kbit_training

        model = prepare_model_for_kbit_training(model)
    else:
        model = model.to(device)
    console.print(f"The {_named(location)}: {_millions(model)} in {chosen}{reason}")
    return model.requires_grad_(False), tokeniser


def _choose_precision(
    wanted: Precision, config: Any, location: Location, device: torch.device
) -> tuple[str, str]:
    """Return a precision and, where it was chosen here, why."""
    can_quantise = device.type == "cuda" and find_spec("bitsandbytes") is not None
    if wanted == "4bit" and (not can_quantise or location.gguf_file):
        raise UserError(
            "A language model in 4 bits needs a CUDA device, the package bitsandbytes and weights "
            "that are no GGUF file.",
            "pip install bitsandbytes, or --set caption.precision=auto",
        )
    if wanted != "auto":
        return wanted, ""
    if device.type != "cuda":
        return "float32", f", as always on {device.type}"
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        weights = sum(w.numel() for w in AutoModelForCausalLM.from_config(config).parameters())
    needed, free = 2 * weights * _ROOM / 2**30, torch.cuda.mem_get_info(device)[0] / 2**30
    room = f"bfloat16 takes about {needed:.0f} GiB and {free:.0f} GiB are free"
    if needed <= free:
        return "bfloat16", f": {room}"
    if can_quantise and not location.gguf_file:
        return "4bit", f": {room}"
    return "bfloat16", f", though {room}; 4 bits need bitsandbytes and no GGUF file"


def _four_bits(device: torch.device) -> dict[str, Any]:
    from transformers import BitsAndBytesConfig

    quantisation = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    return {"quantization_config": quantisation, "device_map": {"": device}}


def _read(location: Location, kind: Any, **options: Any) -> Any:
    """Call ``from_pretrained``, turning its failures into one message."""
    if not location.is_folder:
        return fetch(
            f"the {_named(location)}",
            lambda: kind.from_pretrained(location.source, **location.options, **options),
            _remedy(location),
        )
    try:
        return kind.from_pretrained(location.source, **location.options, **options)
    except Exception as error:  # The readers of the many formats raise whatever they meet.
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"The {_named(location)} cannot be read: {reason}",
            "It needs config.json, the tokeniser's files and model.safetensors, or a GGUF file of "
            "an architecture that transformers can read.",
        ) from error


def check_reachable(location: Location) -> None:
    """Prove that a language model can be had here, without loading it.

    Raises
    ------
    UserError
        If a package is missing, a folder holds no language model, or the hub does not answer.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UserError(
            f"Captions need the packages {', '.join(missing)}.", "pip install 'dermino[captions]'"
        )
    if location.gguf_file and find_spec("gguf") is None:
        raise UserError(
            f"Reading '{location.gguf_file}' needs the package gguf.", "pip install gguf"
        )
    check_folder(location)
    if not location.is_folder and not _is_cached(location):
        from huggingface_hub import model_info

        # Asked once: transformers itself would try for a minute.
        fetch(
            f"the {_named(location)}",
            lambda: model_info(location.source, timeout=10),
            _remedy(location),
        )


def _is_cached(location: Location) -> bool:
    from huggingface_hub import try_to_load_from_cache

    weights = (location.gguf_file,) if location.gguf_file else _WEIGHTS
    return any(isinstance(try_to_load_from_cache(location.source, name), str) for name in weights)


def _named(location: Location) -> str:
    file = f"#{location.gguf_file}" if location.gguf_file else ""
    return f"language model '{location.source}{file}'"


def _remedy(location: Location) -> str:
    return (
        f"Where there is a network: hf download {location.source} --local-dir FOLDER, then --set "
        "caption.language_model=FOLDER. Without one, take any causal model of transformers that "
        "is on this machine, such as a small GGUF file (SmolLM2-135M-Instruct): --set "
        "caption.language_model=FOLDER#FILE.gguf"
    )


def _millions(model: Any) -> str:
    return f"{sum(weight.numel() for weight in model.parameters()) / 1e6:.1f} M numbers"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers' own bars and hints off the terminal."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
