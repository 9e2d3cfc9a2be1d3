"""From manifests to a taxonomy: normalise, embed, merge, and let a person have the last word."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dermino.data.manifest import Manifest
from dermino.errors import UserError
from dermino.knowledge.calibration import calibrate_threshold
from dermino.knowledge.hierarchy import Hierarchy
from dermino.knowledge.merging import cosines, merge_names
from dermino.knowledge.normalisation import normalise
from dermino.knowledge.public import PUBLISHED, read_public
from dermino.knowledge.review import REVIEWED, Decision, check_review, read_review
from dermino.knowledge.taxonomy import Concept, Label, Merge, Taxonomy
from dermino.knowledge.text_encoders import load_text_encoder
from dermino.progress import console


@dataclass(frozen=True)
class _Entry:
    """One dataset's label on its way: its name is "" where the label is left out."""

    dataset: str
    label: str
    images: int
    name: str
    why: str
    abbreviation: str = ""


def build_taxonomy(
    manifests: Sequence[Manifest | str | Path] = (),
    text_encoder: str = "auto",
    threshold: float | None = None,
    review: str | Path | None = None,
    pooling: str | None = None,
    public: bool = False,
) -> Taxonomy:
    """Build the concepts that all manifests share; section 4.1.4 of the DermINO paper.

    Parameters
    ----------
    manifests:
        Manifests or their paths; their order does not matter.
    text_encoder:
        See :func:`dermino.knowledge.text_encoders.load_text_encoder`.
    threshold:
        Smallest cosine between two names of one concept. Default: calibrated for the encoder, see
        :func:`dermino.knowledge.calibration.calibrate_threshold`.
    review:
        An edited review table; what it says of a label holds, whatever the embeddings say.
    pooling:
        For ``hf:ID`` and folders: ``cls``, ``mean`` or ``pooler``.
    public:
        Start from the shipped labels of public datasets, whose concepts were reviewed; the labels
        of ``manifests`` join them. No manifest is needed then.

    Raises
    ------
    UserError
        If there is no label at all, or the encoder, threshold or review cannot be used.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise UserError(f"The threshold {threshold} is not a cosine.", "Give 0 < threshold <= 1.")
    opened = [item if isinstance(item, Manifest) else Manifest.read(item) for item in manifests]
    labels, parents = count_labels(opened), _named_parents(opened)
    decisions: dict[tuple[str, str], Decision] = {}
    if public:
        shipped = read_public()
        decisions |= shipped.decisions
        labels = _united(labels, shipped.labels)
        for dataset, pairs in shipped.parents.items():
            parents[dataset] = [*parents.get(dataset, ()), *pairs]
    if review is not None:
        own = read_review(review)
        unused = check_review(review, own, labels)
        if unused:
            console.print(f"{review} also covers {', '.join(unused)}: not needed here.")
        decisions |= own
    entries = _settle(labels, decisions)
    names = sorted({entry.name for entry in entries if entry.name})
    if not names:
        raise UserError("The manifests hold no diagnosis.", "Pretrain without --labels.")
    encoder = load_text_encoder(text_encoder, pooling)
    if threshold is None:
        threshold = calibrate_threshold(encoder)
    console.print(f"Text encoder {encoder.name}, merging from cosine {threshold:.2f} on")
    embeddings = encoder.embed(names)
    reviewed = {
        entry.name for entry in entries if entry.why in (REVIEWED, PUBLISHED) and entry.name
    }
    groups = merge_names(names, embeddings, threshold, reviewed)
    titles = _choose_titles(groups, entries, reviewed)
    order = sorted(range(len(groups)), key=lambda number: titles[number])
    place = {name: new for new, old in enumerate(order) for name in groups[old]}
    row = {name: number for number, name in enumerate(names)}
    merges = [
        merge
        for old in order
        for merge in _merges(titles[old], groups[old], embeddings[[row[n] for n in groups[old]]])
    ]
    settled = _labels(entries, place, {merge.name: merge for merge in merges})
    return Taxonomy(
        concepts=_concepts([titles[old] for old in order], [groups[old] for old in order], entries),
        labels=settled,
        embeddings=embeddings[[row[titles[old]] for old in order]],
        text_encoder=encoder.name,
        threshold=threshold,
        merges=tuple(merges),
        parents=_parents(parents, settled),
    )


def count_labels(manifests: Iterable[Manifest]) -> dict[str, dict[str, int]]:
    """Return ``{dataset: {label: images}}``: each vocabulary and the labels that occur."""
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for manifest in manifests:
        for name, info in manifest.sources.items():
            counted[name].update(dict.fromkeys(info.vocabulary, 0))
        lists = manifest.table["labels"].combine_chunks()
        datasets = manifest.table["dataset"].combine_chunks().take(pc.list_parent_indices(lists))
        pairs = pa.table({"dataset": datasets, "label": pc.list_flatten(lists)})
        for pair in pairs.group_by(["dataset", "label"]).aggregate([([], "count_all")]).to_pylist():
            counted[pair["dataset"]][pair["label"]] += pair["count_all"]
    return {dataset: dict(sorted(counted[dataset].items())) for dataset in sorted(counted)}


def _united(
    counted: Mapping[str, Mapping[str, int]], shipped: Mapping[str, Iterable[str]]
) -> dict[str, dict[str, int]]:
    names = sorted({*counted, *shipped})
    united = {
        name: {**dict.fromkeys(shipped.get(name, ()), 0), **counted.get(name, {})} for name in names
    }
    return {name: dict(sorted(found.items())) for name, found in united.items()}


def _named_parents(manifests: Iterable[Manifest]) -> dict[str, list[tuple[str, str]]]:
    parents: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for manifest in manifests:
        for name, info in manifest.sources.items():
            parents[name] += info.parents
    return parents


def _parents(
    named: Mapping[str, Iterable[tuple[str, str]]], labels: Mapping[str, Mapping[str, Label]]
) -> dict[str, tuple[tuple[int, int], ...]]:
    """Translate each dataset's pairs of labels; two labels of one concept are no pair."""
    parents = {}
    for dataset, pairs in sorted(named.items()):
        known = labels.get(dataset, {})
        places = {
            (known[fine].concept, known[broad].concept)
            for fine, broad in pairs
            if fine in known and broad in known
        }
        found = tuple(
            sorted(
                (fine, broad)
                for fine, broad in places
                if fine is not None and broad is not None and fine != broad
            )
        )
        try:
            Hierarchy(found)
        except ValueError as error:
            (label, *_) = [name for name in known if known[name].concept == int(str(error))]
            raise UserError(
                f"In the dataset '{dataset}' the label '{label}' is broader than itself, by way of "
                "labels with which it was merged.",
                "Split the concept in a review table, or correct the parents of the source.",
            ) from error
        if found:
            parents[dataset] = found
    return parents


def _settle(
    labels: Mapping[str, Mapping[str, int]], decisions: Mapping[tuple[str, str], Decision]
) -> list[_Entry]:
    """Give every label the name that takes part in merging: reviewed, or normalised."""
    normalised = {label: normalise(label) for found in labels.values() for label in found}
    meanings: dict[str, set[str]] = defaultdict(set)
    settled: dict[str, set[str]] = defaultdict(set)
    for found in normalised.values():
        if found.abbreviation:
            meanings[found.abbreviation].add(found.name)
    for (_, label), decision in decisions.items():
        # Labels without a diagnosis share the empty name; one of them says nothing of the others.
        if decision.concept and label in normalised and normalised[label].name:
            settled[normalised[label].name].add(decision.concept)
    entries = []
    for dataset, found_labels in labels.items():
        for label, images in found_labels.items():
            found = normalised[label]
            name, why = found.name, "" if found.name else "no diagnosis"
            if (dataset, label) in decisions:
                decision = decisions[dataset, label]
                name, why = decision.concept or "", REVIEWED if decision.row else PUBLISHED
            elif len(meanings[name]) == 1:
                (name,) = meanings[name]
                why = "abbreviation"
            elif len(settled[name]) == 1:
                (name,) = settled[name]
                why = "same name as a reviewed label"
            entries.append(_Entry(dataset, label, images, name, why, found.abbreviation))
    return entries


def _choose_titles(
    groups: Sequence[Sequence[str]], entries: Sequence[_Entry], reviewed: set[str]
) -> list[str]:
    """Name each group: a reviewed name, else the one of most datasets, then of most images."""
    datasets: dict[str, set[str]] = defaultdict(set)
    images: Counter[str] = Counter()
    for entry in entries:
        datasets[entry.name].add(entry.dataset)
        images[entry.name] += entry.images

    def rank(name: str) -> tuple[bool, int, int, str]:
        return name not in reviewed, -len(datasets[name]), -images[name], name

    return [min(group, key=rank) for group in groups]


def _merges(title: str, group: Sequence[str], vectors: np.ndarray) -> list[Merge]:
    close = cosines(vectors)
    own = group.index(title)
    weakest = float(close.min())
    return [
        Merge(title, name, round(float(close[own, other]), 4), round(weakest, 4))
        for other, name in enumerate(group)
        if other != own
    ]


def _concepts(
    titles: Sequence[str], groups: Sequence[Sequence[str]], entries: Sequence[_Entry]
) -> tuple[Concept, ...]:
    aliases: dict[str, set[str]] = defaultdict(set)
    for entry in entries:
        if entry.abbreviation:
            aliases[entry.name].add(entry.abbreviation)
    return tuple(
        Concept(title, tuple(sorted({*group, *(a for n in group for a in aliases[n])} - {title})))
        for title, group in zip(titles, groups, strict=True)
    )


def _labels(
    entries: Sequence[_Entry], place: Mapping[str, int], merges: Mapping[str, Merge]
) -> dict[str, dict[str, Label]]:
    labels: dict[str, dict[str, Label]] = defaultdict(dict)
    for entry in entries:
        merge = merges.get(entry.name)
        why = entry.why or (f"merged, cosine {merge.cosine:.4f}" if merge else "normalised name")
        labels[entry.dataset][entry.label] = Label(
            place.get(entry.name), entry.name, entry.images, why
        )
    return dict(labels)
