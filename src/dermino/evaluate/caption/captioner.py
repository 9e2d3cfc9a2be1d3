"""A language model that reads an image's features as words of a prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from dermino.errors import UserError

IMAGE, PROMPT, CHAT = "{image}", "{prompt}", "chat"
_IGNORED = -100  # The label that transformers' losses leave out.


@dataclass(frozen=True)
class Lora:
    """Low-rank adaptation (Hu et al., 2021) of some linear layers.

    Parameters
    ----------
    rank, alpha, dropout:
        As peft has them.
    modules:
        Last parts of the layers' names.
    """

    rank: int
    alpha: float
    dropout: float
    modules: tuple[str, ...]

    def adapt(self, model: Any) -> Any:
        """Return the model with trainable adapters; its own weights stay frozen.

        Raises
        ------
        UserError
            If the model has no layers of these names.
        """
        from peft import LoraConfig, TaskType, get_peft_model

        linear = {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if "Linear" in type(module).__name__ or type(module).__name__ == "Conv1D"
        }
        absent = set(self.modules) - linear
        if absent:
            raise UserError(
                f"The language model has no layers called {', '.join(sorted(absent))}.",
                "Choose the query and value projections with --set "
                f"caption.lora_modules=[...], out of: {', '.join(sorted(linear))}.",
            )
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,
            lora_dropout=self.dropout,
            bias="none",
            task_type=TaskType.CAUSAL_LM,
            target_modules=list(self.modules),
        )
        return get_peft_model(model, config)


class Captioner(nn.Module):
    """Features to visual tokens by one linear layer, then a causal language model.

    The model reads: the prompt's first part, the visual tokens, the prompt's second part, the
    caption. Only the caption's tokens enter the loss (paper, section 4.2.2).

    Parameters
    ----------
    language_model:
        With its adapters, on the device.
    tokeniser:
        Its tokeniser.
    features:
        Length D of a feature vector.
    visual_tokens:
        Number V of tokens an image becomes.
    template:
        What the model reads before the caption, with ``{image}`` where the visual tokens go;
        ``chat`` is the tokeniser's own way to put a user's message.
    prompt:
        Stands for ``{prompt}`` in the template.
    """

    def __init__(
        self,
        language_model: Any,
        tokeniser: Any,
        features: int,
        visual_tokens: int,
        template: str,
        prompt: str,
    ) -> None:
        super().__init__()
        self.language_model = language_model
        self.tokeniser = tokeniser
        self.visual_tokens = visual_tokens
        self._embedding = language_model.get_input_embeddings()
        width = self._embedding.weight.shape[1]
        self.projector = nn.Linear(features, visual_tokens * width)
        self.projector.to(self.device)
        before, after = _around_image(tokeniser, template, prompt)
        self._before, self._after = self._tokens(before), self._tokens(after)

    @property
    def device(self) -> torch.device:
        """Where the language model lies."""
        return self._embedding.weight.device

    def trainable(self) -> dict[str, nn.Parameter]:
        """Return what is learnt, by name: the projector and the adapters."""
        return {name: weight for name, weight in self.named_parameters() if weight.requires_grad}

    def encode(self, caption: str, longest: int) -> Tensor:
        """Return a caption's tokens with the end's, (t,) int64; one that is cut has no end."""
        tokens = self._tokens(caption)
        end = torch.tensor([self.tokeniser.eos_token_id], device=tokens.device)
        return torch.cat([tokens, end])[:longest]

    def loss(self, features: Tensor, captions: Sequence[Tensor]) -> Tensor:
        """Return the mean cross-entropy of the captions' tokens.

        Parameters
        ----------
        features:
            (B, D) float32, on the device.
        captions:
            B results of :meth:`encode`.
        """
        given = self._prompted(features)
        tokens = pad_sequence(list(captions), batch_first=True, padding_value=_IGNORED)
        present = tokens != _IGNORED
        words = self._embedding(tokens.clamp(min=0))
        read = present.new_ones(given.shape[:2])
        return self.language_model(
            inputs_embeds=torch.cat([given, words], dim=1),
            attention_mask=torch.cat([read, present], dim=1).long(),
            labels=torch.cat([tokens.new_full(given.shape[:2], _IGNORED), tokens], dim=1),
            use_cache=False,
        ).loss

    @torch.no_grad()
    def write(self, features: Tensor, longest: int, beams: int) -> list[str]:
        """Write a caption for each image, without chance.

        Parameters
        ----------
        features:
            (B, D) float32, on the device.
        longest:
            Tokens of a caption at most.
        beams:
            Captions followed side by side; 1 takes the likeliest token each time.
        """
        from transformers import GenerationConfig

        given = self._prompted(features)
        end = self.tokeniser.eos_token_id
        # The model's own settings may draw at random.
        config = GenerationConfig(
            max_new_tokens=longest,
            num_beams=beams,
            do_sample=False,
            eos_token_id=end,
            pad_token_id=end,
            bos_token_id=self.tokeniser.bos_token_id,
        )
        tokens = self.language_model.generate(
            inputs_embeds=given,
            attention_mask=torch.ones(given.shape[:2], dtype=torch.long, device=given.device),
            generation_config=config,
        )
        texts = self.tokeniser.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _prompted(self, features: Tensor) -> Tensor:
        """Embed everything before the caption: (B, D) -> (B, p + V + s, width)."""
        n = len(features)
        before, after = (
            self._embedding(part).expand(n, -1, -1) for part in (self._before, self._after)
        )
        image = self.projector(features).unflatten(1, (self.visual_tokens, -1))
        return torch.cat([before, image.to(before.dtype), after], dim=1)

    def _tokens(self, text: str) -> Tensor:
        ids = self.tokeniser(text, add_special_tokens=False)["input_ids"]
        return torch.tensor(ids, dtype=torch.long, device=self.device)


def _around_image(tokeniser: Any, template: str, prompt: str) -> tuple[str, str]:
    if template == CHAT:
        if not tokeniser.chat_template:
            raise UserError(
                "The language model's tokeniser has no chat template.",
                "Write the template out: --set 'caption.template=[INST] {image} {prompt} [/INST]'.",
            )
        message = {"role": "user", "content": f"{IMAGE} {prompt}"}
        whole = tokeniser.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
    else:
        whole = (tokeniser.bos_token or "") + template.replace(PROMPT, prompt)
    before, _, after = whole.partition(IMAGE)
    return before, after
