"""Character normalisation: one spelling for the names that datasets write in many ways."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from functools import cache

from dermino.knowledge.tables import read_table

_BRACKETS = re.compile(r"[(\[{]([^()\[\]{}]*)[)\]}]")
_POSSESSIVE = re.compile(r"(?<=[a-z])(?:'s\b|'(?!\w)|s'(?!\w))")


@dataclass(frozen=True)
class NormalisedLabel:
    """A label as one spelling.

    ``name`` is empty where the label says that there is no diagnosis. ``abbreviation`` is the one
    that the label itself introduces: ``bcc`` in "Basal cell carcinoma (BCC)".
    """

    name: str
    abbreviation: str = ""


@dataclass(frozen=True)
class _Rules:
    codes: dict[str, str]
    spellings: dict[str, str]
    endings: dict[str, str]
    words: dict[str, str]
    names: dict[str, str]
    not_diagnoses: frozenset[str]


def normalise(label: str) -> NormalisedLabel:
    """Return a label's name in lower case American spelling, singular, without punctuation.

    In this order: Unicode compatibility forms and diacritics, case, possessives, abbreviations
    (in brackets or trailing, where they are the name's initials), punctuation, dataset codes
    (only where the code is the whole label), then spellings, plurals and synonyms from
    ``normalisation.json``. Section 4.1.4 of the DermINO paper.
    """
    rules = _rules()
    text = _plain(label)
    text, abbreviation = _split_abbreviation(_POSSESSIVE.sub("", text))
    name = _words_only(text)
    if name in rules.codes:
        return NormalisedLabel(rules.codes[name], name)
    for written, meant in rules.spellings.items():
        name = name.replace(written, meant)
    name = " ".join(_singular(word, rules) for word in name.split())
    name = rules.names.get(name, name)
    if name in rules.not_diagnoses:
        return NormalisedLabel("")
    return NormalisedLabel(name, abbreviation)


def _plain(label: str) -> str:
    text = unicodedata.normalize("NFKC", label)
    text = text.replace("\u2019", "'").replace("\u2018", "'").replace("`", "'").replace("_", " ")
    decomposed = unicodedata.normalize("NFD", text.casefold())
    return "".join(char for char in decomposed if not unicodedata.combining(char)).strip()


def _words_only(text: str) -> str:
    text = text.replace("&", " and ").replace("/", " or ").replace("'", "")
    return " ".join(re.findall(r"\w+", text))


def _split_abbreviation(text: str) -> tuple[str, str]:
    for match in _BRACKETS.finditer(text):
        before, inside = text[: match.start()].strip(" -"), match.group(1).strip()
        if _abbreviates(inside, before):
            return before + " " + text[match.end() :], inside
    words = text.split()
    if len(words) > 3 and _abbreviates(words[-1], " ".join(words[:-1])):
        return " ".join(words[:-1]), words[-1]
    return text, ""


def _abbreviates(short: str, name: str) -> bool:
    words = _words_only(name).split()
    if not short.isalnum() or not words:
        return False
    initials = "".join(word[0] for word in words)
    return len(short) > 1 and (short == initials or _rules().codes.get(short) == " ".join(words))


def _singular(word: str, rules: _Rules) -> str:
    if word in rules.words:
        return rules.words[word]
    for plural, singular in rules.endings.items():
        if word.endswith(plural) and len(word) > len(plural) + 2:
            return word.removesuffix(plural) + singular
    return word


@cache
def _rules() -> _Rules:
    tables = read_table("normalisation")
    return _Rules(**{**tables, "not_diagnoses": frozenset(tables["not_diagnoses"])})
