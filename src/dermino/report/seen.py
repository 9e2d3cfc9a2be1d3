"""How the page says that an encoder has seen test images in pretraining."""

from __future__ import annotations

from collections.abc import Iterable

_TITLES = {
    "none": "no",
    "images": "yes, without labels",
    "images+labels": "yes, with labels",
    "": "unknown",
}
_MARKS = {"none": "", "images": "†", "images+labels": "‡"}
_UNKNOWN = "*"
_EXPLAINED = {
    "†": "test images seen in pretraining, without their labels",
    "‡": "test images seen in pretraining with their labels",
    _UNKNOWN: "not known whether test images were seen in pretraining",
}


def seen_title(flag: str) -> str:
    """Return ``seen_in_pretraining`` as the answer to: were the test images seen?"""
    return _TITLES.get(flag, flag)


def seen_mark(flag: str) -> str:
    """Return the sign that follows an encoder's name or value; nothing where no image was seen."""
    return _MARKS.get(flag, _UNKNOWN)


def explain_marks(flags: Iterable[str]) -> str:
    """Return a sentence on the marks among some flags; nothing where there is none."""
    found = {seen_mark(flag) for flag in flags}
    said = [f"{mark} {meaning}" for mark, meaning in _EXPLAINED.items() if mark in found]
    return f"{'; '.join(said)}." if said else ""
