"""What tests of captions need: a tiny language model in real files, and a machine without Java."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from dermino.evaluate.caption.java import JavaFailed

needs_captions = pytest.mark.skipif(
    any(
        find_spec(name) is None
        for name in ("transformers", "peft", "nltk", "rouge_score", "pycocoevalcap")
    ),
    reason="needs dermino[captions]",
)


def write_language_model(folder: Path, texts: Iterable[str]) -> Path:
    """Write a random Llama of 60 thousand weights with a tokeniser of its own for the texts."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokeniser = Tokenizer(models.BPE())
    tokeniser.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokeniser.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokeniser.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(
        tokenizer_object=tokeniser, bos_token="<s>", eos_token="</s>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        bos_token_id=0,
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def remove_java(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it a machine without Java, whose program takes seconds to start."""

    def fail() -> str:
        raise JavaFailed("it needs Java, which is not here")

    monkeypatch.setattr("dermino.evaluate.caption.java.java", fail)


def remove_wordnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make it a machine without NLTK's word lists."""

    def fail() -> None:
        raise LookupError("wordnet")

    monkeypatch.setattr("dermino.evaluate.caption.scores._probe_nltk", fail)
