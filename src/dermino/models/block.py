"""The transformer block of pretraining: timm's, without the arithmetic that nobody reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from dermino.errors import UserError
from dermino.models.stochastic_depth import add_branches


class QueryAttention(Attention):
    """timm's attention, which can be asked for some tokens of each image only."""

    def forward(  # type: ignore[override]
        self, tokens: torch.Tensor, queries: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return what attention makes of the tokens: (B, N, D), or (B, Q, D) of the queries.

        Parameters
        ----------
        tokens:
            (B, N, D); all of them are attended to.
        queries:
            (B, Q) int64 places of the tokens that are asked for.
        """
        asked = tokens
        if queries is not None:
            asked = take_tokens(tokens, queries)
            if queries.shape[1] == 1 and self._is_plain():
                return self._attend_from_one(tokens, asked)
        q, k, v = self._project(tokens, asked)
        heads = [x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in (q, k, v)]
        mixed = F.scaled_dot_product_attention(
            self.q_norm(heads[0]),
            self.k_norm(heads[1]),
            heads[2],
            dropout_p=self.attn_drop.p if self.training else 0.0,
        )
        return self._finish(mixed.transpose(1, 2).flatten(2), asked)

    def _project(
        self, tokens: torch.Tensor, asked: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the (B, Q, D) queries and the (B, N, D) keys and values."""
        if asked is tokens:
            q, k, v = self.qkv(tokens).chunk(3, dim=-1)
            return q, k, v
        width = self.num_heads * self.head_dim
        weight, bias = self.qkv.weight, self.qkv.bias
        of_queries, of_all = (None, None) if bias is None else bias.split([width, 2 * width])
        q = F.linear(asked, weight[:width], of_queries)
        k, v = F.linear(tokens, weight[width:], of_all).chunk(2, dim=-1)
        return q, k, v

    def _is_plain(self) -> bool:
        dropout = self.attn_drop.p if self.training else 0.0
        norms = (self.q_norm, self.k_norm)
        return dropout == 0.0 and all(isinstance(norm, nn.Identity) for norm in norms)

    def _attend_from_one(self, tokens: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        """Return (B, 1, D) for the (B, 1, D) token asked for, with no keys and values of all.

        q . (W_k x + b_k) = (W_k^T q) . x + q . b_k, where the last term is the same for all tokens
        and does not change the softmax; sum_n a_n (W_v x_n + b_v) = W_v (sum_n a_n x_n) + b_v.
        """
        weight, bias = self.qkv.weight.to(tokens.dtype), self.qkv.bias
        bias = weight.new_zeros(len(weight)) if bias is None else bias.to(tokens.dtype)
        of_query, of_keys, of_values = weight.unflatten(0, (3, self.num_heads, -1))
        query_bias, _, value_bias = bias.unflatten(0, (3, self.num_heads, -1))
        # Autocast would round the scores before the softmax.
        with torch.autocast(tokens.device.type, enabled=False):
            q = torch.einsum("bc,hdc->bhd", asked.squeeze(1), of_query) + query_bias
            directions = torch.einsum("bhd,hdc->bhc", q * self.scale, of_keys)
            weights = (directions @ tokens.transpose(1, 2)).softmax(dim=-1)
            mixed = torch.einsum("bhc,hdc->bhd", weights @ tokens, of_values) + value_bias
        return self._finish(mixed.flatten(1).unsqueeze(1), asked)

    def _finish(self, mixed: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
        mixed = self.norm(mixed)
        # Newer releases of timm know gated attention.
        if getattr(self, "gate", None) is not None:
            mixed = mixed * self.gate(asked).sigmoid()
        return self.proj_drop(self.proj(mixed))


class PretrainingBlock(Block):
    """timm's block, with branches for some images and results for some tokens.

    The layer scale is multiplied into the last weights of its branch instead of into every token,
    together with the scale of stochastic depth: gamma (W x + b) = (gamma W) x + gamma b.
    """

    _shared: dict[tuple[str, float], dict[str, torch.Tensor]] | None = None

    @classmethod
    def adopt(cls, block: nn.Module) -> None:
        """Turn a block of timm's into this class, in place, with the parameters it has.

        Raises
        ------
        UserError
            If it is not a plain pre-norm block.
        """
        if isinstance(block, cls):
            return
        for part, plain in ((block, Block), (getattr(block, "attn", None), Attention)):
            if type(part) is not plain:
                raise UserError(
                    f"Blocks of type {type(part).__name__} cannot be pretrained.",
                    "Choose a transformer of plain pre-norm blocks, such as "
                    "vit_base_patch14_dinov2.",
                )
        block.__class__ = cls
        block.attn.__class__ = QueryAttention  # type: ignore[union-attr,assignment]

    def forward(  # type: ignore[override]
        self,
        tokens: torch.Tensor,
        attention_rows: torch.Tensor | None = None,
        mlp_rows: torch.Tensor | None = None,
        scale: float = 1.0,
        images: torch.Tensor | None = None,
        queries: torch.Tensor | None = None,
        places: torch.Tensor | None = None,
        owned: bool = False,
        owns_gradient: bool = False,
    ) -> torch.Tensor:
        """Return the tokens after the block: (B, N, D), or (B + M, D) of the tokens asked for.

        Attention has to see all tokens, but what nobody reads of a last block is not computed:
        asked for are all class tokens and, of some images, some patches.

        Parameters
        ----------
        tokens:
            (B, N, D).
        attention_rows, mlp_rows:
            (k,) int64 images each branch is computed for; None = all.
        scale:
            Factor of what the branches add.
        images, queries:
            (m,) int64 images and (m, Q) int64 places of the tokens asked for of each, beside its
            class token; None = all tokens of all images.
        places:
            (M,) int64 places in the flattened queries that are not there to fill up.
        owned, owns_gradient:
            As for :func:`dermino.models.stochastic_depth.add_branches`.
        """
        if images is None or queries is None or places is None:
            return add_branches(
                tokens,
                (lambda x: self._attend(x, scale), attention_rows),
                (lambda x: self._perceive(x, scale), mlp_rows),
                owned=owned,
                owns_gradient=owns_gradient,
            )
        asked = self._class_tokens(tokens, attention_rows, scale)
        owners = torch.arange(len(tokens), device=tokens.device)
        if len(images):
            patches = self._asked_patches(tokens, attention_rows, scale, images, queries)
            asked = torch.cat([asked, patches.flatten(0, 1).index_select(0, places)])
            owners = torch.cat([owners, images[places // queries.shape[1]]])
        added = self._perceive(asked, scale)
        return asked + _hidden_elsewhere(added, mlp_rows, len(tokens), owners)

    def _class_tokens(
        self, tokens: torch.Tensor, rows: torch.Tensor | None, scale: float
    ) -> torch.Tensor:
        """Return the (B, D) class tokens after attention."""
        attending = tokens if rows is None else tokens.index_select(0, rows)
        first = torch.zeros(len(attending), 1, dtype=torch.int64, device=tokens.device)
        added = self._attend(attending, scale, first).squeeze(1)
        if rows is None:
            return tokens[:, 0] + added
        return tokens[:, 0].index_add(0, rows, added.to(tokens.dtype))

    def _asked_patches(
        self,
        tokens: torch.Tensor,
        rows: torch.Tensor | None,
        scale: float,
        images: torch.Tensor,
        queries: torch.Tensor,
    ) -> torch.Tensor:
        """Return the (m, Q, D) tokens asked for after attention."""
        seen = tokens.index_select(0, images)
        added = self._attend(seen, scale, queries)
        return take_tokens(seen, queries) + _hidden_elsewhere(added, rows, len(tokens), images)

    def _attend(
        self, tokens: torch.Tensor, scale: float, queries: torch.Tensor | None = None
    ) -> torch.Tensor:
        weights = self._scaled("proj", self.attn.proj, self.ls1, scale)
        return functional_call(self.attn, weights, (self.norm1(tokens), queries))

    def _perceive(self, tokens: torch.Tensor, scale: float) -> torch.Tensor:
        weights = self._scaled("fc2", self.mlp.fc2, self.ls2, scale)
        return functional_call(self.mlp, weights, (self.norm2(tokens),))

    def _scaled(
        self, name: str, layer: nn.Linear, layer_scale: nn.Module, scale: float
    ) -> dict[str, torch.Tensor]:
        """Return a branch's last weights, scaled, by the names that the branch has for them."""
        shared = {} if torch.compiler.is_compiling() or self._shared is None else self._shared
        if (name, scale) not in shared:
            factor = layer_scale(layer.weight.new_full((layer.out_features,), scale))
            weights = {f"{name}.weight": layer.weight * factor.unsqueeze(1)}
            if layer.bias is not None:
                weights[f"{name}.bias"] = layer.bias * factor
            shared[name, scale] = weights
        return shared[name, scale]


def _hidden_elsewhere(
    added: torch.Tensor, rows: torch.Tensor | None, images: int, owners: torch.Tensor
) -> torch.Tensor:
    """Return what a branch adds, zero in images that do not take it.

    Where few images or tokens are left, hiding is cheaper than shapes that change with the draw.

    Parameters
    ----------
    added:
        (n, ..., D).
    rows:
        (k,) int64 images that take the branch, of as many as ``images``; None = all.
    owners:
        (n,) int64 image of each entry.
    """
    if rows is None:
        return added
    taken = added.new_zeros(images).index_fill(0, rows, 1.0)
    return added * taken[owners].unflatten(0, (-1, *[1] * (added.dim() - 1)))


@contextmanager
def scaled_weights_shared(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """Multiply layer scales into weights once for all passes within the block, not in each.

    For passes whose gradients are taken together, and whose blocks no sharding (FSDP) and no
    recomputation sees.
    """
    own = [block for block in blocks if isinstance(block, PretrainingBlock)]
    for block in own:
        block._shared = {}
    try:
        yield
    finally:
        for block in own:
            block._shared = None


def take_tokens(tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the tokens at the given places: (B, N, D) and (B, M) int64 -> (B, M, D)."""
    images, length, _ = tokens.shape
    first = torch.arange(0, images * length, length, device=places.device)
    rows = (places + first.unsqueeze(1)).flatten()
    return tokens.flatten(0, 1).index_select(0, rows).unflatten(0, places.shape)
