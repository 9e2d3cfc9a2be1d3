"""The Taxonomy: the concepts that all datasets share, and what each dataset says about them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from dermino.data.manifest import Manifest
from dermino.errors import UserError, nearest
from dermino.files import atomic_path, writable_folder, write_json
from dermino.knowledge.certainty import Certainty
from dermino.knowledge.encoded_labels import EncodedLabels, encode_labels
from dermino.knowledge.hierarchy import Hierarchy

VERSION = 2
TABLE = "taxonomy.json"
EMBEDDINGS = "embeddings.safetensors"


@dataclass(frozen=True)
class Concept:
    """A disease concept: its name and the other normalised names and abbreviations it has."""

    name: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Label:
    """What became of one dataset's label.

    ``concept`` is a place in :attr:`Taxonomy.concepts`; None leaves the label out of everything.
    ``images`` counts the rows that carried it, ``name`` is its normalised name, ``why`` says how
    it came to its concept.
    """

    concept: int | None
    name: str
    images: int
    why: str


@dataclass(frozen=True)
class Merge:
    """A name that joined a concept: cosine to its name, and the weakest one inside the concept."""

    concept: str
    name: str
    cosine: float
    weakest: float


@dataclass(frozen=True)
class Taxonomy:
    """Concepts, the way of every raw label to its concept, and the names' embeddings.

    Parameters
    ----------
    concepts:
        Sorted by name; a concept's place is its index j in Eq. 5 to 7.
    labels:
        For each dataset, every label its publisher could have given.
    embeddings:
        (C, T) float32 rows of length 1: the e_i of Eq. 7.
    text_encoder:
        What embedded the names.
    threshold:
        The smallest cosine at which two names were merged.
    merges:
        Every name that joined a concept of another name.
    parents:
        For each dataset whose columns tell, pairs of places: a concept and a broader one.
    """

    concepts: tuple[Concept, ...]
    labels: Mapping[str, Mapping[str, Label]]
    embeddings: np.ndarray
    text_encoder: str
    threshold: float
    merges: tuple[Merge, ...] = ()
    parents: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.concepts)

    @property
    def names(self) -> list[str]:
        """The concepts' names."""
        return [concept.name for concept in self.concepts]

    @property
    def datasets(self) -> list[str]:
        """The datasets' names, sorted."""
        return sorted(self.labels)

    @cached_property
    def known(self) -> np.ndarray:
        """(datasets, C) bool: the concepts in each dataset's vocabulary."""
        known = np.zeros((len(self.labels), len(self)), dtype=bool)
        for row, dataset in enumerate(self.datasets):
            places = [entry.concept for entry in self.labels[dataset].values()]
            known[row, [place for place in places if place is not None]] = True
        return known

    @cached_property
    def hierarchies(self) -> dict[str, Hierarchy]:
        """What each dataset's own columns say is broader than what."""
        return {dataset: Hierarchy(pairs) for dataset, pairs in self.parents.items()}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of everything the taxonomy holds, to say which one a model was trained with."""
        digest = hashlib.sha256(json.dumps(self._described(), ensure_ascii=False).encode())
        digest.update(np.ascontiguousarray(self.embeddings).tobytes())
        return digest.hexdigest()

    def targets(self, labels: Iterable[str], dataset: str) -> tuple[np.ndarray, np.ndarray]:
        """Return y and n of Eq. 6 for one image, each (C,) uint8.

        y is 1 for the labels' concepts and all that the dataset calls broader. n is 1 for every
        other concept in the dataset's vocabulary too, but 0 for those below the image's finest
        labels, of which nobody knows, and 0 everywhere when the image has no label.

        Raises
        ------
        UserError
            For a dataset or label that the taxonomy does not hold.
        """
        y = np.zeros(len(self), dtype=np.uint8)
        places = [self._place(label, dataset) for label in labels]
        named = {place for place in places if place is not None}
        if not named:
            return y, np.zeros_like(y)
        hierarchy = self.hierarchies.get(dataset, Hierarchy())
        broader = {int(place) for concept in named for place in hierarchy.above(concept)}
        y[sorted(named | broader)] = 1
        n = self.known[self.datasets.index(dataset)].astype(np.uint8)
        for finest in named - broader:
            n[hierarchy.below(finest)] = 0
        return y, n

    def encode(self, manifest: Manifest, certainty: Certainty | None = None) -> EncodedLabels:
        """Translate a manifest's labels to concepts, all rows at once.

        Parameters
        ----------
        manifest:
            The images.
        certainty:
            What to make of weighted differential diagnoses. Default: ``Certainty()``.

        Raises
        ------
        UserError
            For a dataset or label that the taxonomy does not hold.
        """
        return encode_labels(
            manifest,
            self.datasets,
            self.known,
            self._place,
            self.hierarchies,
            certainty or Certainty(),
        )

    def write(self, folder: str | Path) -> None:
        """Write ``taxonomy.json`` and ``embeddings.safetensors``; the same bytes every time."""
        folder = writable_folder(folder)
        with atomic_path(folder / EMBEDDINGS) as temporary:
            temporary.write_bytes(save({"embeddings": np.ascontiguousarray(self.embeddings)}))
        write_json(folder / TABLE, {**self._described(), "fingerprint": self.fingerprint})

    @classmethod
    def read(cls, folder: str | Path) -> Taxonomy:
        """Read a folder written by :meth:`write`.

        Raises
        ------
        UserError
            If a file is missing, damaged, or not of the same taxonomy as the other.
        """
        folder = Path(folder)
        remedy = "Build it: dermino labels build MANIFEST... --out TAXONOMY"
        for name in (TABLE, EMBEDDINGS):
            if not (folder / name).is_file():
                raise UserError(f"'{folder}' is not a taxonomy: it has no {name}.", remedy)
        try:
            stored = json.loads((folder / TABLE).read_text(encoding="utf-8"))
            embeddings = load((folder / EMBEDDINGS).read_bytes())["embeddings"]
            taxonomy = cls._from_described(stored, embeddings)
        except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            raise UserError(f"The taxonomy '{folder}' cannot be read: {error}.", remedy) from error
        if taxonomy.fingerprint != stored.get("fingerprint"):
            raise UserError(
                f"The taxonomy '{folder}' was changed after it was built.",
                "Edit its review.csv instead, and build again with --review.",
            )
        return taxonomy

    def _place(self, label: str, dataset: str) -> int | None:
        if dataset not in self.labels:
            guess = nearest(dataset, self.labels)
            hint = f"Is it '{guess}'? " if guess else ""
            raise UserError(
                f"The taxonomy does not know the dataset '{dataset}'.",
                f"{hint}It knows: {', '.join(self.datasets)}. Build it again with this manifest.",
            )
        if label not in self.labels[dataset]:
            guess = nearest(label, [*self.labels[dataset], *self.names])
            hint = f"Nearest: '{guess}'. " if guess else ""
            raise UserError(
                f"The label '{label}' of the dataset '{dataset}' is outside the taxonomy.",
                f"{hint}Correct it, or build the taxonomy again with this manifest.",
            )
        return self.labels[dataset][label].concept

    def _described(self) -> dict[str, Any]:
        names = self.names
        return {
            "version": VERSION,
            "text_encoder": self.text_encoder,
            "threshold": self.threshold,
            "concepts": [asdict(concept) for concept in self.concepts],
            "labels": {
                dataset: {
                    label: {
                        **asdict(entry),
                        "concept": None if entry.concept is None else names[entry.concept],
                    }
                    for label, entry in sorted(self.labels[dataset].items())
                }
                for dataset in self.datasets
            },
            "merges": [asdict(merge) for merge in self.merges],
            "parents": {
                dataset: [[names[concept], names[broader]] for concept, broader in pairs]
                for dataset, pairs in sorted(self.parents.items())
            },
        }

    @classmethod
    def _from_described(cls, stored: dict[str, Any], embeddings: np.ndarray) -> Taxonomy:
        if stored["version"] != VERSION:
            raise ValueError(f"its version is {stored['version']}, this dermino reads {VERSION}")
        concepts = tuple(
            Concept(item["name"], tuple(item["aliases"])) for item in stored["concepts"]
        )
        place = {concept.name: number for number, concept in enumerate(concepts)}
        labels = {
            dataset: {
                label: Label(
                    None if entry["concept"] is None else place[entry["concept"]],
                    entry["name"],
                    entry["images"],
                    entry["why"],
                )
                for label, entry in entries.items()
            }
            for dataset, entries in stored["labels"].items()
        }
        return cls(
            concepts,
            labels,
            embeddings,
            stored["text_encoder"],
            stored["threshold"],
            tuple(Merge(**merge) for merge in stored["merges"]),
            {
                dataset: tuple((place[concept], place[broader]) for concept, broader in pairs)
                for dataset, pairs in stored["parents"].items()
            },
        )
