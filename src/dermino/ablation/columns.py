"""The columns of the paper's tables as data: what fills each, and which of them are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dermino.errors import unknown

PAPER = "paper"
# What takes little time beside the training of a row.
DEFAULT_PROTOCOLS = ("retrieval", "linear", "segmentation-linear")


@dataclass(frozen=True)
class ColumnGroup:
    """Figures of one protocol.

    Parameters
    ----------
    title:
        As in the paper.
    metrics:
        The paper's names, each with the metric of ``results.csv``.
    protocol:
        The evaluation protocol; empty for what dermino cannot measure yet.
    target:
        The manifest column that holds the answers.
    answers:
        What these are called, in the plural.
    meaning:
        How the figures are to be read.
    percent:
        Whether the paper prints percent; fractions otherwise.
    """

    title: str
    metrics: Mapping[str, str]
    protocol: str = ""
    target: str = "labels"
    answers: str = "labels"
    meaning: str = "macro-averaged, in percent"
    percent: bool = True

    def column(self, metric: str) -> str:
        """Return the name of a column in the files."""
        return f"{self.title} {metric}"

    def printed(self, value: float) -> float:
        """Return a value between 0 and 1 in the paper's unit."""
        return 100 * value if self.percent else value

    def text(self, value: float) -> str:
        """Return a value between 0 and 1 as the paper prints it."""
        if value != value:
            return "undef."
        return f"{self.printed(value):.2f}" if self.percent else f"{value:.4f}"


_CLASSES = {"AUROC": "macro_auroc", "F1": "macro_f1"}
_OVERLAP = {"JAC": "jaccard", "DICE": "dice"}
_MASKS = ("mask", "masks", "of the lesion in each image, averaged, in percent")
_CAPTIONS = ("caption", "captions", "as the authors compute them, fractions as in the paper", False)
GROUPS = (
    ColumnGroup("Retrieval", _CLASSES, "retrieval"),
    ColumnGroup("Classification", _CLASSES, "linear"),
    ColumnGroup("Segmentation Linear", _OVERLAP, "segmentation-linear", *_MASKS),
    ColumnGroup("Segmentation UperNet", _OVERLAP, "segmentation-upernet", *_MASKS),
    ColumnGroup("Caption", {"METEOR": "meteor", "CIDEr": "cider"}, "caption", *_CAPTIONS),
    ColumnGroup("Federated Learning", _CLASSES),
)
PROTOCOLS = tuple(group.protocol for group in GROUPS if group.protocol)


def asked_protocols(names: Sequence[str] | None) -> dict[str, bool]:
    """Return the protocols to run, in the table's order.

    Parameters
    ----------
    names:
        Protocols that fill a column; ``paper`` stands for all. Default: those that cost little.

    Returns
    -------
    dict
        By name, whether it was asked for by its own name, so that it must be possible.

    Raises
    ------
    UserError
        For a name that fills no column.
    """
    for name in names or ():
        if name not in {*PROTOCOLS, PAPER}:
            raise unknown("protocol of the paper's tables", name, [*PROTOCOLS, PAPER])
    named = set(names or ())
    taken = PROTOCOLS if PAPER in named else (named or DEFAULT_PROTOCOLS)
    return {name: name in named for name in PROTOCOLS if name in taken}
