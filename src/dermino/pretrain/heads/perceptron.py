"""Perceptrons with batch normalisation: projectors and predictors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.distributed.nn.functional import all_reduce

from dermino.pretrain.distributed import world_size


class SyncedBatchNorm(nn.BatchNorm1d):
    """Batch normalisation over the batches of all processes, on any device.

    PyTorch's own synchronised normalisation needs GPUs.
    """

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(B, D) -> (B, D); B is the same in every process."""
        if not self.training or world_size() == 1:
            return super().forward(features)
        count = len(features) * world_size()
        values = features.float()
        mean = all_reduce(values.sum(dim=0)) / count
        variance = all_reduce((values - mean).square().sum(dim=0)) / count
        with torch.no_grad():
            self._follow(mean, variance * count / (count - 1))
        normalised = (values - mean) * torch.rsqrt(variance + self.eps)
        if self.affine:
            normalised = normalised * self.weight + self.bias
        return normalised.to(features.dtype)

    def _follow(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        momentum = self.momentum if self.momentum is not None else 0.1
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


class Perceptron(nn.Sequential):
    """Linear layers with batch normalisation and ReLU between them.

    Parameters
    ----------
    widths:
        Of input, hidden layers and output.
    normalise_output:
        Normalise the output too, without scale and shift (MoCo v3).
    bias:
        Give the hidden and output layers a bias.
    """

    def __init__(self, widths: Sequence[int], normalise_output: bool, bias: bool) -> None:
        super().__init__()
        last = len(widths) - 2
        for i in range(len(widths) - 1):
            self.add_module(f"linear{i}", nn.Linear(widths[i], widths[i + 1], bias=bias))
            if i < last:
                self.add_module(f"norm{i}", SyncedBatchNorm(widths[i + 1]))
                self.add_module(f"relu{i}", nn.ReLU())
            elif normalise_output:
                self.add_module(f"norm{i}", SyncedBatchNorm(widths[i + 1], affine=False))
