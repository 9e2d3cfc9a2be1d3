"""How sure a teacher is of its prototypes, and how many of them it uses."""

from __future__ import annotations

import math

import torch

from dermino.pretrain.distributed import all_reduce_max, all_reduce_sum

# Enough rows of each step for a mean; with 65,536 prototypes they are 64 MiB to read.
_MOST_ROWS = 256


class AssignmentTally:
    """Sums over the assignments of one head since it was last read.

    Parameters
    ----------
    num_prototypes:
        K.
    device:
        Where the assignments are.
    """

    def __init__(self, num_prototypes: int, device: torch.device) -> None:
        self._total = torch.zeros(num_prototypes, device=device)
        self._first_choice = torch.zeros(num_prototypes, dtype=torch.int32, device=device)
        self._entropy = torch.zeros((), device=device)
        self._rows = 0

    @torch.no_grad()
    def add(self, assignments: torch.Tensor) -> None:
        """Add (N, K) probabilities; of very many rows, every so many are taken."""
        rows = thin_out(assignments)
        self.add_choices(rows)
        self._total += rows.sum(dim=0)
        self._entropy += torch.special.entr(rows).sum()

    @torch.no_grad()
    def add_choices(self, scores: torch.Tensor) -> None:
        """Add (N, K) scores that are no probabilities: only the first choices count."""
        rows = thin_out(scores)
        self._first_choice[rows.argmax(dim=1)] = 1
        self._rows += len(rows)

    def read(self) -> dict[str, float]:
        """Return the figures over all processes; every process has to ask.

        Returns
        -------
        dict
            ``prototypes_used``: prototypes that were some row's first choice, as a share of what
            could be, min(K, rows). ``entropy`` of a row on average, ``entropy_of_mean``, of all
            rows' mean, and ``information``, their difference, which is the mutual information of
            rows and prototypes; all divided by log K, and absent for scores.
        """
        numbers = torch.stack([self._entropy, self._entropy.new_tensor(self._rows)])
        sums = all_reduce_sum(torch.cat([self._total, numbers]))
        used = int(all_reduce_max(self._first_choice).sum())
        entropy, rows = sums[-2:].tolist()
        width = len(self._total)
        if not rows or width < 2:
            return {}
        figures = {"prototypes_used": used / min(width, rows)}
        mean = sums[:-2] / rows
        if bool(mean.any()):
            alone = entropy / rows / math.log(width)
            together = float(torch.special.entr(mean).sum()) / math.log(width)
            figures |= {
                "entropy": alone,
                "entropy_of_mean": together,
                "information": together - alone,
            }
        return figures


def thin_out(rows: torch.Tensor) -> torch.Tensor:
    """Return at most 256 rows, evenly spaced; the same ones every time."""
    return rows[:: -(-len(rows) // _MOST_ROWS) or 1]
