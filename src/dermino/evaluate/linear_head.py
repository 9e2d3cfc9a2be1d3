"""A linear layer on frozen features: logistic regression by L-BFGS, and what any layer answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from dermino.evaluate.kinds import AnyPredictions
from dermino.evaluate.protocol import Outcome, Trial
from dermino.evaluate.readout import Readout

Penalty = Callable[[torch.Tensor], torch.Tensor]


def predict(trial: Trial, readout: Readout, head: nn.Module, split: str) -> AnyPredictions:
    """Answer the rows of a split with a head that takes (m, D) features.

    Parameters
    ----------
    trial:
        Features and targets.
    readout:
        What logits mean.
    head:
        From (m, D) float32 features to (m, K) logits, on the device of the features.
    split:
        ``train``, ``val`` or ``test``.
    """
    features, _ = trial.part(split)
    with torch.no_grad():
        logits = head(features).double().cpu().numpy()
    return readout.answer(logits, trial.task.targets[trial.task.rows(split)])


def answer(trial: Trial, readout: Readout, head: nn.Module) -> Outcome:
    """Answer the test rows, and the validation rows where there are any."""
    rows = trial.task.rows("val")
    return Outcome(
        predict(trial, readout, head, "test"),
        validation=predict(trial, readout, head, "val") if len(rows) else None,
        validation_rows=rows if len(rows) else None,
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one CPU thread: sharing out a batch of features takes longer than its product.

    Results do not depend on the number of cores then, either.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def fit_lbfgs(
    head: nn.Linear,
    features: torch.Tensor,
    targets: torch.Tensor,
    readout: Readout,
    penalty: Penalty,
    iterations: int,
) -> None:
    """Minimise the mean loss plus a penalty by L-BFGS with a strong Wolfe line search, in place.

    Parameters
    ----------
    head:
        Where to start; holds the result.
    features, targets:
        All training rows, (m, D) float32 and what :meth:`Trial.part` gives.
    readout:
        Its loss.
    penalty:
        From the (K, D) weights to a number; biases are free.
    iterations:
        At most; fewer once the gradient is below 1e-7 or the loss stands still.
    """
    optimiser = torch.optim.LBFGS(
        head.parameters(),
        max_iter=iterations,
        tolerance_grad=1e-7,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = readout.loss(head(features), targets) + penalty(head.weight)
        loss.backward()
        return loss

    optimiser.step(closure)


def new_head(dimension: int, readout: Readout, seed: int) -> nn.Linear:
    """Return a layer with PyTorch's usual initial weights, from a seed, on the CPU.

    Parameters
    ----------
    dimension:
        Width D of the features.
    readout:
        Tells the number K of logits.
    seed:
        Equal seeds give equal weights.
    """
    random = torch.Generator().manual_seed(seed)
    head = nn.Linear(dimension, readout.outputs)
    bound = dimension**-0.5
    with torch.no_grad():
        head.weight.uniform_(-bound, bound, generator=random)
        head.bias.uniform_(-bound, bound, generator=random)
    return head


def standardisation(features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and deviation of each dimension, (D,); constant ones keep their unit."""
    deviation, mean = torch.std_mean(features, dim=0, correction=0)
    return mean, deviation.masked_fill(deviation < torch.finfo(deviation.dtype).eps, 1.0)
