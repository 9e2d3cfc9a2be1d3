"""A coarse group for each concept, as far as any dataset's own columns give one."""

from __future__ import annotations

from dermino.knowledge.taxonomy import Taxonomy


def coarse_groups(taxonomy: Taxonomy) -> list[str]:
    """Return each concept's group, "" where no dataset gives one; for figures, not for training.

    The dataset that groups most concepts is asked first: with the public taxonomy that is
    Fitzpatrick17k and its nine partitions. A concept that other concepts belong to is its own
    group.
    """
    groups = [""] * len(taxonomy)
    names = taxonomy.names
    for pairs in sorted(taxonomy.parents.values(), key=len, reverse=True):
        for concept, broader in pairs:
            groups[concept] = groups[concept] or names[broader]
    for broader in {broader for pairs in taxonomy.parents.values() for _, broader in pairs}:
        groups[broader] = groups[broader] or names[broader]
    return groups
