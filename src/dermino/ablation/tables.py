"""The paper's Extended Data Tables 1 to 3 as data: which rows there are and what each one trains.

Rows and their order are the paper's; rows that are not in it follow and say so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dermino.errors import UserError, unknown

TABLES = ("losses", "methods", "sources")


@dataclass(frozen=True)
class Row:
    """One line of a table: one pretraining run.

    Parameters
    ----------
    name:
        The run's folder and the encoder's name in the results.
    marks:
        The columns of :attr:`AblationTable.marks` that are ticked.
    overrides:
        What the row changes in the recipe, as ``key=value``.
    method:
        The pretraining method; None takes the recipe's.
    manifests:
        How many of the manifests, from the first on, it trains on; None takes all.
    supervised:
        Whether the labels are used.
    published:
        Whether the row is in the paper.
    """

    name: str
    marks: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    method: str | None = None
    manifests: int | None = None
    supervised: bool = True
    published: bool = True


@dataclass(frozen=True)
class AblationTable:
    """One of the paper's tables.

    Parameters
    ----------
    title:
        As in the paper, with the table's number.
    rows_are:
        Heading of the rows' names.
    marks:
        Columns that tick what a row contains.
    rows:
        From top to bottom. A row that the paper prints twice is trained once.
    remark:
        What a reader must know about the paper's table, or nothing.
    """

    title: str
    rows_are: str
    marks: tuple[str, ...]
    rows: tuple[Row, ...]
    remark: str = ""

    def chosen(self, names: Sequence[str] | None) -> tuple[Row, ...]:
        """Return each row once, or only those called ``names``; a UserError for unknown ones."""
        rows = {row.name: row for row in self.rows}
        for name in names or ():
            if name not in rows:
                raise unknown("row", name, rows)
        return tuple(row for row in rows.values() if not names or row.name in names)


def ablation_table(name: str, data: Sequence[str | Path]) -> AblationTable:
    """Return the table called ``losses``, ``methods`` or ``sources``.

    Parameters
    ----------
    name:
        The table.
    data:
        The manifests, which are the rows of ``sources``.

    Raises
    ------
    UserError
        For an unknown table, or if ``sources`` has fewer than two manifests or two of one name.
    """
    if name == "losses":
        return _LOSSES
    if name == "methods":
        return _METHODS
    if name == "sources":
        return _sources([Path(path) for path in data])
    raise unknown("table", name, TABLES)


_IMAGE, _PATCH = "Image Level", "Patch Level"
_KOLEO, _KNOWLEDGE = "Regularization Level", "Knowledge Guidance"
_WEIGHTS = {
    _IMAGE: "loss.image",
    _PATCH: "loss.patch",
    _KOLEO: "loss.koleo",
    _KNOWLEDGE: "loss.knowledge",
}


def _losses_row(name: str, *marks: str, prototypes: str = "text, learnable") -> Row:
    """Build a row that has the ticked terms at the recipe's weights and the others at zero."""
    absent = tuple(f"{weight}=0" for term, weight in _WEIGHTS.items() if term not in marks)
    supervised = _KNOWLEDGE in marks
    initial, kind = prototypes.split(", ")
    chosen = (
        f"prototypes.initial={initial}",
        f"prototypes.learnable={str(kind == 'learnable').lower()}",
    )
    overrides = (*absent, *(chosen if supervised else ()))
    return Row(name, marks, overrides, "dermino", supervised=supervised)


def _ours(row: Row) -> Row:
    return replace(row, published=False)


_ALL_TERMS = _losses_row("all-terms", *_WEIGHTS)
_LOSSES = AblationTable(
    "ED Table 1: loss functions",
    "loss terms",
    tuple(_WEIGHTS),
    (
        _losses_row("image", _IMAGE),
        _losses_row("image+patch", _IMAGE, _PATCH),
        _ALL_TERMS,
        _losses_row("image+patch+koleo", _IMAGE, _PATCH, _KOLEO),
        _ALL_TERMS,
        _ours(_losses_row("image+knowledge", _IMAGE, _KNOWLEDGE)),
        _ours(_losses_row("image+patch+knowledge", _IMAGE, _PATCH, _KNOWLEDGE)),
        _ours(_losses_row("random-prototypes", *_WEIGHTS, prototypes="random, learnable")),
        _ours(_losses_row("frozen-prototypes", *_WEIGHTS, prototypes="text, frozen")),
        _ours(_losses_row("frozen-random-prototypes", *_WEIGHTS, prototypes="random, frozen")),
    ),
    "The marks are those printed in the paper. Its first two rows score above the one with three "
    "terms and no knowledge, so they may have had the knowledge term too; the rows with "
    "image+knowledge and image+patch+knowledge are that reading.",
)

_METHODS = AblationTable(
    "ED Table 2: pretraining methods",
    "pretrain method",
    (),
    (
        Row("MAE", method="mae", supervised=False),
        Row("MoCov3", method="mocov3", supervised=False),
        Row("SWAV", method="swav", supervised=False),
        Row("DINOv2", method="dinov2", supervised=False),
        Row("DermINO", method="dermino"),
    ),
)


def _sources(data: Sequence[Path]) -> AblationTable:
    """Each row adds the next manifest; in the paper Public, Web, Proprietary."""
    if len(data) < 2:
        raise UserError(
            "The table of sources adds one manifest after the other, but only one was given.",
            "Give at least two with --data, the one to begin with first.",
        )
    repeated = Counter(path.stem for path in data)
    names = [
        path.stem if repeated[path.stem] == 1 else f"{path.absolute().parent.name}-{path.stem}"
        for path in data
    ]
    if len(set(names)) < len(names):
        raise UserError(f"Two manifests are called alike: {', '.join(names)}.", "Rename one.")
    rows = tuple(
        Row("+".join(names[:count]), tuple(names[:count]), manifests=count)
        for count in range(1, len(names) + 1)
    )
    return AblationTable("ED Table 3: dataset sources", "sources", tuple(names), rows)
