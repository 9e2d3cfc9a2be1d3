"""How well text encoders merge disease names: precision and recall on two ontologies.

Test names are the skin diseases of Disease Ontology (OBO) and MONDO (JSON with label, synonyms,
ancestors) with their synonyms; near misses are other diseases of the same ontology. Names pass
through dermino's normalisation first; what it makes equal counts for no encoder.

    python benchmarks/label_merging.py --mondo MONDO.json --obo HumanDO.obo --encoder minilm
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from dermino.knowledge.calibration import calibrate_threshold
from dermino.knowledge.contrasts import contrasting, traits
from dermino.knowledge.merging import cosines, merge_names
from dermino.knowledge.normalisation import normalise
from dermino.knowledge.text_encoders import load_text_encoder

ROOTS = {
    "skin disease",
    "skin disorder",
    "skin neoplasm",
    "skin cancer",
    "skin benign neoplasm",
    "integumentary system disease",
}
# Synonyms that an ontology derives by rule, which nobody writes as a label.
_DERIVED = re.compile(r"zone of skin|mammalian|caused by|mutation|\(disease\)|disease or disorder")
_FUNCTION_WORDS = frozenset(
    ("a", "an", "and", "by", "due", "for", "from", "in", "of", "on", "or", "the", "to", "type")
)
_COMMON_WORDS = frozenset(("acute", "chronic", "cutaneous", "disease", "disorder", "skin"))
KINDS = ("contrast words", "one word apart", "broader and narrower", "siblings", "shared word")
SAMPLED = 2000
THRESHOLDS = np.arange(50, 100) / 100
PRECISION = 0.9


@dataclass(frozen=True)
class Disease:
    """A disease of an ontology: its names after normalisation, and the identifiers above it."""

    names: tuple[str, ...]
    parents: frozenset[str]
    ancestors: frozenset[str]


def read_mondo(path: Path) -> dict[str, Disease]:
    terms = json.loads(path.read_text(encoding="utf-8"))
    return _skin_diseases(
        {
            key: (term["label"], term.get("synonyms", []), term["ancestors"])
            for key, term in terms.items()
            if not term["deprecated"] and term.get("label")
        }
    )


def read_obo(path: Path) -> dict[str, Disease]:
    parents: dict[str, list[str]] = defaultdict(list)
    labels: dict[str, str] = {}
    synonyms: dict[str, list[str]] = defaultdict(list)
    for stanza in path.read_text(encoding="utf-8").split("\n\n"):
        found = re.search(r"^\[Term\]\nid: (\S+)\nname: (.+)$", stanza, re.MULTILINE)
        if not found or "is_obsolete: true" in stanza:
            continue
        key, labels[found[1]] = found[1], found[2]
        parents[key] = re.findall(r"^is_a: (\S+)", stanza, re.MULTILINE)
        synonyms[key] = re.findall(r'^synonym: "(.+?)" EXACT', stanza, re.MULTILINE)

    def distances(key: str) -> dict[str, int]:
        found: dict[str, int] = {}
        layer, distance = parents[key], 1
        while layer:
            found |= {parent: distance for parent in layer if parent not in found}
            layer = [above for parent in layer for above in parents[parent] if above not in found]
            distance += 1
        return found

    return _skin_diseases({key: (labels[key], synonyms[key], distances(key)) for key in labels})


def _skin_diseases(
    terms: dict[str, tuple[str, list[str], dict[str, int]]],
) -> dict[str, Disease]:
    """Keep skin diseases without a number in their name (those are genetic variants)."""
    roots = {key for key, (label, _, _) in terms.items() if label in ROOTS}
    found, owners = {}, defaultdict(set)
    for key, (label, synonyms, ancestors) in terms.items():
        if not roots & ancestors.keys() or re.search(r"\d|\bobsolete\b", label):
            continue
        written = [label, *(name for name in synonyms if _is_a_label(name))]
        names = tuple(dict.fromkeys(filter(None, (normalise(name).name for name in written))))
        parents = frozenset(parent for parent, distance in ancestors.items() if distance == 1)
        found[key] = Disease(names, parents, frozenset(ancestors))
        for name in names:
            owners[name].add(key)
    shared = {name for name, keys in owners.items() if len(keys) > 1}
    return {
        key: Disease(names, disease.parents, disease.ancestors)
        for key, disease in found.items()
        if (names := tuple(name for name in disease.names if name not in shared))
    }


def _is_a_label(name: str) -> bool:
    abbreviation = " " not in name and (name.isupper() or any(map(str.isdigit, name)))
    return not abbreviation and not _DERIVED.search(name) and not re.search(r"\d|;", name)


def near_misses(diseases: dict[str, Disease], seed: int = 0) -> dict[str, list[tuple[str, str]]]:
    """Return pairs of names of two diseases by what makes them near; a pair counts once."""
    pairs: dict[str, list[tuple[str, str]]] = {kind: [] for kind in KINDS}
    first = {key: disease.names[0] for key, disease in diseases.items()}
    for one, other in combinations(sorted(diseases), 2):
        kind = _kind(diseases, one, other, first[one], first[other])
        if kind:
            pairs[kind].append((first[one], first[other]))
    draw = random.Random(seed)
    return {
        kind: found if len(found) <= SAMPLED else draw.sample(found, SAMPLED)
        for kind, found in pairs.items()
    }


def _kind(diseases: dict[str, Disease], one: str, other: str, name: str, second: str) -> str:
    ours, theirs = set(name.split()), set(second.split())
    shared = (ours & theirs) - _FUNCTION_WORDS
    if shared and _without_contrasts(name) == _without_contrasts(second):
        return KINDS[0]
    if shared and len(ours - theirs) == 1 == len(theirs - ours):
        return KINDS[1]
    if one in diseases[other].ancestors or other in diseases[one].ancestors:
        return KINDS[2]
    if diseases[one].parents & diseases[other].parents:
        return KINDS[3]
    return KINDS[4] if shared - _COMMON_WORDS else ""


def _without_contrasts(name: str) -> str:
    words = {word for group in traits(name).values() for phrase in group for word in phrase.split()}
    return " ".join(sorted(word for word in name.split() if not traits(word) and word not in words))


@dataclass(frozen=True)
class Scores:
    """What one encoder makes of one ontology."""

    sweep: pd.DataFrame
    misses: dict[str, int]


def measure(diseases: dict[str, Disease], embed: Callable[[list[str]], np.ndarray]) -> Scores:
    """Merge all names at every threshold, and count right and wrong pairs."""
    names = sorted({name for disease in diseases.values() for name in disease.names})
    place = {name: number for number, name in enumerate(names)}
    vectors = embed(names)
    close, apart = cosines(vectors), contrasting(names)
    same = np.zeros(close.shape, dtype=bool)
    for disease in diseases.values():
        rows = [place[name] for name in disease.names]
        same[np.ix_(rows, rows)] = True
    upper = np.triu_indices(len(names), 1)
    truth = same[upper]
    misses = {
        kind: np.array([[place[one], place[two]] for one, two in found], dtype=int).reshape(-1, 2)
        for kind, found in near_misses(diseases).items()
    }
    rows = []
    for threshold in THRESHOLDS:
        merged = np.zeros_like(same)
        for group in merge_names(names, vectors, threshold):
            members = [place[name] for name in group]
            merged[np.ix_(members, members)] = True
        guess = merged[upper]
        plain = (close >= threshold)[upper]
        rows.append(
            {
                "threshold": threshold,
                "precision": _share(truth, guess),
                "recall": _share(guess, truth),
                "pairs merged": int(guess.sum()),
                "precision without rules": _share(truth, plain),
                "recall without rules": _share(plain, truth),
                **{
                    kind: float(((close >= threshold) & ~apart)[*pairs.T].mean())
                    for kind, pairs in misses.items()
                },
                **{
                    f"{kind}, no rules": float((close >= threshold)[*pairs.T].mean())
                    for kind, pairs in misses.items()
                },
            }
        )
    return Scores(pd.DataFrame(rows), {kind: len(pairs) for kind, pairs in misses.items()})


def _share(of: np.ndarray, within: np.ndarray) -> float:
    return float(of[within].mean()) if within.any() else float("nan")


def lowest_threshold(sweep: pd.DataFrame, precision: float = PRECISION) -> float | None:
    """Return the lowest threshold from which on the precision holds; None if it never does."""
    found = None
    for row in sweep.sort_values("threshold", ascending=False).itertuples():
        if row.precision < precision:
            break
        found = row.threshold
    return found


def describe(ontology: str, diseases: dict[str, Disease]) -> str:
    names = sum(len(disease.names) for disease in diseases.values())
    pairs = sum(len(d.names) * (len(d.names) - 1) // 2 for d in diseases.values())
    return f"{ontology}: {len(diseases)} diseases, {names} names, {pairs} pairs of synonyms"


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mondo", type=Path, required=True)
    parser.add_argument("--obo", type=Path, required=True)
    parser.add_argument("--encoder", action="append", help="default: char-ngrams and minilm")
    parser.add_argument("--pooling", help="of encoders given as folder or hf:ID")
    parser.add_argument("--out", type=Path, help="write every threshold's figures as CSV")
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    ontologies = {
        "Disease Ontology": read_obo(options.obo),
        "MONDO": read_mondo(options.mondo),
    }
    for name, diseases in ontologies.items():
        print(describe(name, diseases))
    tables = []
    for name in options.encoder or ["char-ngrams", "minilm"]:
        given = ":" in name or Path(name).is_dir()
        encoder = load_text_encoder(name, options.pooling if given else None)
        scores = {title: measure(found, encoder.embed) for title, found in ontologies.items()}
        chosen = lowest_threshold(scores["Disease Ontology"].sweep)
        print(f"\n{encoder.name}: precision {PRECISION} on Disease Ontology from {chosen}")
        calibrated = calibrate_threshold(encoder)
        print(f"calibrated on dermino's own pairs: {calibrated}")
        for title, found in scores.items():
            sweep = found.sweep.assign(encoder=encoder.name, ontology=title)
            tables.append(sweep)
            shown = sweep[sweep["threshold"].isin([calibrated, chosen])]
            print(f"{title}; near misses {found.misses}")
            print(shown.round(3).T.to_string(header=False))
    if options.out:
        pd.concat(tables).to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
