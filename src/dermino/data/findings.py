"""What was missing, unreadable or surprising: one finding, one line, one remedy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import pandas as pd

from dermino.files import atomic_path

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True)
class Finding:
    """One thing to know about a file or a table.

    ``severity``: ``error`` rows cannot be used, ``warning`` rows are used but may mislead,
    ``note`` is information (a count that differs from the published one, say). ``problem`` is
    worded alike for all findings of a kind, ``detail`` is what is particular to this one.
    ``row`` counts the rows of a table below its header, from 1.
    """

    severity: Severity
    problem: str
    detail: str = ""
    path: str = ""
    row: int | None = None
    remedy: str = ""


def findings_frame(findings: Sequence[Finding]) -> pd.DataFrame:
    """Return findings as a table, one row each."""
    columns = list(Finding.__dataclass_fields__)
    return pd.DataFrame([asdict(finding) for finding in findings], columns=columns)


def write_findings(findings: Sequence[Finding], path: str | Path) -> None:
    """Write findings as CSV, atomically."""
    with atomic_path(path) as temporary:
        findings_frame(findings).to_csv(temporary, index=False)
