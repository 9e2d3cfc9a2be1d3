"""Words that keep two diseases apart, however close their names are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import numpy as np

from dermino.knowledge.tables import read_table

# Single letters count too: T cell and B cell, group A and group E.
_NUMBER = re.compile(r"^(\d+[a-z]?|[a-z]|ii|iii|iv|vi|vii|viii|ix)$")


def contrast(first: str, second: str) -> str:
    """Say what separates two normalised names, such as "benign, not malignant"; "" if nothing.

    They are separated when a group of ``contrasts.json`` finds different alternatives in them, or
    an alternative in one and none in the other, or when their numbers differ (type I, type II).
    """
    ours, theirs = traits(first), traits(second)
    for group in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(group, frozenset()), theirs.get(group, frozenset())
        if mine != other:
            only = sorted(mine - other), sorted(other - mine)
            return ", not ".join(" ".join(side) for side in only if side)
    return ""


def contrasting(names: Sequence[str]) -> np.ndarray:
    """Return the (n, n) bool matrix of the pairs that :func:`contrast` separates."""
    found = [traits(name) for name in names]
    groups = {traits: number for number, traits in enumerate(dict.fromkeys(map(_key, found)))}
    kinds = np.array([groups[_key(item)] for item in found], dtype=np.int64)
    return kinds[:, None] != kinds[None, :]


def traits(name: str) -> dict[str, frozenset[str]]:
    """Return the alternatives of each contrast group that a normalised name mentions."""
    padded = f" {name} "
    found = {
        group: frozenset(
            alternative
            for alternative, phrases in alternatives.items()
            if any(f" {phrase} " in padded for phrase in phrases)
        )
        for group, alternatives in _groups().items()
    }
    found["number"] = frozenset(word for word in name.split() if _NUMBER.match(word))
    # Less and more of something are spelt alike: hypopigmentation, hyperpigmentation.
    found["amount"] = frozenset(word for word in name.split() if word.startswith("hypo"))
    return {group: alternatives for group, alternatives in found.items() if alternatives}


def _key(found: dict[str, frozenset[str]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((group, tuple(sorted(found[group]))) for group in sorted(found))


@cache
def _groups() -> dict[str, dict[str, list[str]]]:
    return read_table("contrasts")
