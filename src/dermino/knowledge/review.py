"""The review table: what a dermatologist reads, edits in a spreadsheet and feeds back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd

from dermino.data.text_table import read_text_table
from dermino.errors import UserError, nearest
from dermino.files import atomic_path
from dermino.knowledge.contrasts import contrast
from dermino.knowledge.merging import cosines
from dermino.knowledge.taxonomy import TABLE, Taxonomy

COLUMNS = (
    "dataset",
    "label",
    "images",
    "name",
    "concept",
    "cosine",
    "nearest_concept",
    "nearest_cosine",
    "kept_apart_by",
    "why",
)
NEEDED = ("dataset", "label", "concept")
REVIEWED = "reviewed"
EXCLUDE = "exclude"
REVIEW = "review.csv"
_REMEDY = "Write a concept's name, or 'exclude' to leave the label out of everything."


@dataclass(frozen=True)
class Decision:
    """What a person settled for one label: a concept's name, or None to leave it out."""

    concept: str | None
    row: int


def review_table(taxonomy: Taxonomy) -> pd.DataFrame:
    """Return one row for each dataset and label, in the columns of :data:`COLUMNS`.

    ``cosine`` is between the label's name and its concept's name, ``nearest_concept`` the closest
    other concept, and ``kept_apart_by`` what forbids merging with it although it is close enough.
    """
    close = cosines(taxonomy.embeddings)
    np.fill_diagonal(close, -1.0)
    joined = {(merge.concept, merge.name): merge.cosine for merge in taxonomy.merges}
    rows = []
    for dataset in taxonomy.datasets:
        for label, entry in sorted(taxonomy.labels[dataset].items()):
            row = {"dataset": dataset, "label": label, "images": entry.images, "name": entry.name}
            if entry.concept is None:
                row["concept"] = EXCLUDE
            else:
                concept = taxonomy.concepts[entry.concept].name
                row |= {"concept": concept, "cosine": joined.get((concept, entry.name), 1.0)}
                row |= _neighbour(taxonomy, close, entry.concept)
            rows.append({**row, "why": entry.why})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def write_review(table: pd.DataFrame, path: str | Path) -> None:
    """Write a review table as CSV, or as a workbook where ``path`` ends in ``.xlsx``."""
    path = Path(path)
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".xlsx":
            _need_openpyxl()
            workbook = BytesIO()
            table.to_excel(workbook, index=False, freeze_panes=(1, 0), engine="openpyxl")
            temporary.write_bytes(workbook.getvalue())
        else:
            # With the byte-order mark spreadsheets read accents in a CSV correctly.
            table.to_csv(temporary, index=False, encoding="utf-8-sig", lineterminator="\n")


def read_review(path: str | Path) -> dict[tuple[str, str], Decision]:
    """Read an edited review table; CSV with comma, semicolon or tab, or ``.xlsx``.

    Only the columns ``dataset``, ``label`` and ``concept`` are used. Rows may be left out.

    Raises
    ------
    UserError
        Naming the file and row of whatever cannot be used.
    """
    path = Path(path)
    table = _read_table(path)
    for column in NEEDED:
        if column not in table:
            guess = nearest(column, table.columns)
            hint = f"Is it '{guess}'? " if guess else ""
            raise UserError(
                f"{path} has no column '{column}'.", f"{hint}Needed: {', '.join(NEEDED)}."
            )
    decisions: dict[tuple[str, str], Decision] = {}
    for row, (dataset, label, written) in enumerate(
        table[list(NEEDED)].itertuples(index=False, name=None), start=2
    ):
        concept = " ".join(written.casefold().split())
        if not dataset and not label and not concept:
            continue
        if not concept:
            raise UserError(
                f"{path}, row {row}: the concept of '{label}' ({dataset}) is empty.", _REMEDY
            )
        decision = Decision(None if concept == EXCLUDE else concept, row)
        before = decisions.setdefault((dataset, label), decision)
        if before.concept != decision.concept:
            raise UserError(
                f"{path}, row {row}: '{label}' ({dataset}) already has the concept "
                f"'{before.concept or EXCLUDE}' in row {before.row}.",
                "Keep one of the two rows.",
            )
    return decisions


def check_review(
    path: str | Path,
    decisions: Mapping[tuple[str, str], Decision],
    labels: Mapping[str, Mapping[str, int]],
) -> list[str]:
    """Compare a review table with the labels at hand, ``{dataset: {label: images}}``.

    Returns
    -------
    list
        The datasets that only the review table knows; their rows are not needed.

    Raises
    ------
    UserError
        For a label that its dataset does not have, naming the row and the nearest one.
    """
    for (dataset, label), decision in decisions.items():
        if dataset in labels and label not in labels[dataset]:
            guess = nearest(label, labels[dataset])
            hint = f"Is it '{guess}'? " if guess else ""
            raise UserError(
                f"{path}, row {decision.row}: the dataset '{dataset}' has no label '{label}'.",
                f"{hint}Edit the column 'concept' only.",
            )
    if decisions and not any(dataset in labels for dataset, _ in decisions):
        known = ", ".join(sorted(labels))
        raise UserError(
            f"{path} is about none of these datasets: {known}.", "Is it the right file?"
        )
    return sorted({dataset for dataset, _ in decisions} - labels.keys())


def refuse_to_lose_review(folder: str | Path) -> None:
    """Raise a UserError if building into ``folder`` without a review would undo a person's work."""
    path = Path(folder) / REVIEW
    if not path.is_file() or not (path.parent / TABLE).is_file():
        return
    taxonomy, decisions = Taxonomy.read(folder), read_review(path)
    for (dataset, label), decision in decisions.items():
        entry = taxonomy.labels.get(dataset, {}).get(label)
        if entry is None:
            continue
        concept = None if entry.concept is None else taxonomy.concepts[entry.concept].name
        if entry.why == REVIEWED or concept != decision.concept:
            raise UserError(
                f"'{path}' holds decisions made by a person (row {decision.row}).",
                f"Feed them in with --review '{path}', or choose another --out.",
            )


def _neighbour(taxonomy: Taxonomy, close: np.ndarray, place: int) -> dict[str, object]:
    if len(taxonomy) < 2:
        return {}
    other = int(close[place].argmax())
    cosine = float(close[place, other])
    names = taxonomy.names
    apart = contrast(names[place], names[other]) if cosine >= taxonomy.threshold else ""
    return {
        "nearest_concept": names[other],
        "nearest_cosine": round(cosine, 4),
        "kept_apart_by": apart,
    }


def _read_table(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise UserError(f"There is no review table '{path}'.", "Check --review.")
    if path.suffix.lower() == ".xlsx":
        table = _read_workbook(path)
    else:
        table = read_text_table(path).fillna("")
    table.columns = [str(column).strip().lower() for column in table.columns]
    return table.apply(lambda column: column.astype(str))


def _read_workbook(path: Path) -> pd.DataFrame:
    _need_openpyxl()
    try:
        return pd.read_excel(path, dtype=str, na_filter=False, engine="openpyxl")
    except Exception as error:  # openpyxl has exceptions of its own for a damaged file.
        raise UserError(
            f"{path} cannot be read as a workbook: {error}.", "Save it as .xlsx or as CSV."
        ) from error


def _need_openpyxl() -> None:
    if find_spec("openpyxl") is None:
        raise UserError("Workbooks need the package openpyxl.", "pip install 'dermino[excel]'.")
