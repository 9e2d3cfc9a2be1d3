"""The projection head between a transformer's tokens and the prototype scores."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class WeightNormLinear(nn.Module):
    """Linear layer without bias whose rows are g * v / ||v||, both trainable.

    Parameter names are those of DINOv2's checkpoints (``weight_g``, ``weight_v``).
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(out_features, 1))
        self.weight_v = nn.Parameter(torch.empty(out_features, in_features))
        # As torch's linear layers start, and so DINOv2's: it gives its truncated normal to the
        # layers before, and this one does not exist by then.
        nn.init.uniform_(self.weight_v, -(in_features**-0.5), in_features**-0.5)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(..., in_features) -> (..., out_features)."""
        return F.linear(features, self.weight_g * F.normalize(self.weight_v, dim=1, eps=0.0))


class ProjectionHead(nn.Module):
    """Three-layer perceptron, L2 normalisation and weight-normalised prototypes (DINO, iBOT).

    Parameters
    ----------
    embed_dim:
        Width D of the tokens.
    num_prototypes:
        Width K of the output; 65,536 in the paper.
    hidden_dim, bottleneck_dim, num_layers:
        Shape of the perceptron; 2,048, 256 and 3 in the paper.
    """

    def __init__(
        self,
        embed_dim: int,
        num_prototypes: int,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        num_layers: int = 3,
    ) -> None:
        super().__init__()
        widths = [embed_dim, *[hidden_dim] * (num_layers - 1), bottleneck_dim]
        layers: list[nn.Module] = []
        for i in range(num_layers):
            layers.append(nn.Linear(widths[i], widths[i + 1]))
            if i < num_layers - 1:
                layers.append(nn.GELU())
        self.mlp = nn.Sequential(*layers)
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.last_layer = WeightNormLinear(bottleneck_dim, num_prototypes)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(..., D) tokens -> (..., K) prototype scores."""
        features = self.mlp(tokens)
        epsilon = 1e-6 if features.dtype == torch.float16 else 1e-12
        return self.last_layer(F.normalize(features, dim=-1, eps=epsilon))
