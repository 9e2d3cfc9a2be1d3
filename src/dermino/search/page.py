"""A page that shows what was found: each query, and the images most like it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from dermino.data.reference import Reference
from dermino.files import write_text
from dermino.report.pictures import square_thumbnail
from dermino.report.templates import html_templates
from dermino.search.archive import Archive

_DETAILS = ("dataset", "lesion_id", "patient_id", "modality", "site", "skin_type", "age", "sex")


def write_page(archive: Archive, found: pd.DataFrame, path: Path) -> None:
    """Write a self-contained HTML page.

    Parameters
    ----------
    archive:
        What was searched.
    found:
        As :func:`dermino.search.archive.query_index` returns it.
    path:
        The file to write. It holds small copies of the pictures: keep it where they may be kept.
    """
    queries = [
        {
            "name": Path(str(query)).name,
            "picture": square_thumbnail(Path(str(query))),
            "found": [_described(row) for row in rows.to_dict("records")],
        }
        for query, rows in found.groupby("query", sort=False)
    ]
    template = html_templates("dermino.search").get_template("page.html")
    page = template.render(summary=archive.summary, queries=queries)
    write_text(path, page)


def _described(row: Mapping[Any, Any]) -> dict[str, Any]:
    details = [f"{name.replace('_', ' ')} {row[name]}" for name in _DETAILS if _known(row, name)]
    reference: Reference = row["path"]
    return {
        "name": str(row["image"]),
        "labels": ", ".join(row["labels"]) or "no label",
        "similarity": float(row["similarity"]),
        "details": "; ".join(details),
        "picture": square_thumbnail(reference),
    }


def _known(row: Mapping[Any, Any], name: str) -> bool:
    return name in row and bool(pd.notna(row[name]))
