"""The shared taxonomy of public datasets: shipped with the package, reviewed label by label."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from dermino.errors import UserError
from dermino.knowledge.review import EXCLUDE, Decision
from dermino.knowledge.tables import read_table

PUBLIC = "public"
PUBLISHED = "public taxonomy"


@dataclass(frozen=True)
class PublicLabels:
    """What the package knows of public datasets' labels.

    Parameters
    ----------
    version:
        Changes whenever a decision does.
    labels:
        For each dataset, every label and the concept that a person gave it; None leaves it out.
    parents:
        For each dataset whose columns tell, pairs of a label and a broader one.
    """

    version: str
    labels: Mapping[str, Mapping[str, str | None]]
    parents: Mapping[str, tuple[tuple[str, str], ...]]

    @property
    def decisions(self) -> dict[tuple[str, str], Decision]:
        """The concepts in the form of a review table's rows, all of row 0."""
        return {
            (dataset, label): Decision(concept, 0)
            for dataset, concepts in self.labels.items()
            for label, concept in concepts.items()
        }


@cache
def read_public() -> PublicLabels:
    """Read the shipped file and prove that it is as it was reviewed.

    Raises
    ------
    UserError
        If its checksum does not fit.
    """
    stored = read_table("public_taxonomy")
    if checksum(stored) != stored["sha256"]:
        raise UserError(
            f"The public taxonomy, version {stored['version']}, is not as it was reviewed.",
            "Install dermino again; to change a decision, build with --review.",
        )
    return PublicLabels(
        version=stored["version"],
        labels={
            dataset: {
                label: None if concept == EXCLUDE else concept for label, concept in labels.items()
            }
            for dataset, labels in stored["labels"].items()
        },
        parents={
            dataset: tuple((fine, broad) for fine, broad in pairs)
            for dataset, pairs in stored["parents"].items()
        },
    )


def checksum(stored: Mapping[str, object]) -> str:
    """Return the SHA-256 of version, labels and parents."""
    checked = {key: stored[key] for key in ("version", "labels", "parents")}
    text = json.dumps(checked, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
