"""The page of ``dermino data audit``: pairs of images side by side, the worst first."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from dermino import __version__
from dermino.data.reference import Reference, locate
from dermino.errors import UserError
from dermino.files import write_text
from dermino.report.pictures import SIDE, encode, open_picture
from dermino.report.templates import html_templates

PAGE = "audit.html"
_SHOWN_OF_EACH = 100
_GROUPS_SHOWN = 100
_LONGER_SIDE = 2 * SIDE
_MEANINGS = {
    "test image seen in pretraining": "Results on these images flatter an encoder that was "
    "pretrained on the others.",
    "same image in several splits": "Results flatter whatever is trained on one and tested on the "
    "other.",
    "same image, different labels": "At least one of the labels is wrong, or they are two views of "
    "one case.",
    "training image seen in pretraining": "Nothing is wrong with it, but few labels will look "
    "like more.",
    "same image twice": "Both are in one split, or in none: they count twice.",
}


@dataclass(frozen=True)
class _Side:
    """One image of a pair."""

    picture: str | None
    name: str
    manifest: str
    split: str
    labels: str


@dataclass(frozen=True)
class _Pair:
    """Two images, and in words why they count as one."""

    first: _Side
    second: _Side
    reasons: list[str]


@dataclass(frozen=True)
class _Section:
    """All pairs that have one problem; ``pairs`` are those shown."""

    problem: str
    meaning: str
    count: int
    pairs: list[_Pair]


def audit_page(folder: str | Path, images: bool = True) -> Path:
    """Write ``audit.html`` into the folder of an audit; it holds all it shows.

    Parameters
    ----------
    folder:
        What :func:`dermino.audit.audit` wrote.
    images:
        Whether to show the pictures.

    Raises
    ------
    UserError
        If the folder holds no audit.
    """
    folder = Path(folder)
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        pairs = pd.read_parquet(folder / "pairs.parquet")
        groups = pd.read_parquet(folder / "groups.parquet")
    except (OSError, ValueError) as error:
        raise UserError(
            f"'{folder}' holds no audit: {error}.",
            "Make one: dermino data audit MANIFEST --out DIR",
        ) from error
    page = (
        html_templates()
        .get_template("duplicate_pairs.html")
        .render(
            version=__version__,
            summary=summary,
            sections=_sections(pairs, Path(summary["root"]), images),
            images=images,
            groups=groups.head(_GROUPS_SHOWN).to_dict("records"),
            groups_count=len(groups),
        )
    )
    write_text(folder / PAGE, page)
    return folder / PAGE


def _sections(pairs: pd.DataFrame, root: Path, images: bool) -> list[_Section]:
    picture = cache(lambda path: _thumbnail(locate(root, path)) if images else None)
    sections = []
    for problem, own in pairs.groupby("problem", sort=False):
        shown = [
            _Pair(_side(row, "a", picture), _side(row, "b", picture), _reasons(row))
            for row in own.head(_SHOWN_OF_EACH).to_dict("records")
        ]
        sections.append(_Section(str(problem), _MEANINGS[str(problem)], len(own), shown))
    return sections


def _side(pair: Mapping[Any, Any], side: str, picture: Callable[[str], str | None]) -> _Side:
    return _Side(
        picture(pair[f"path_{side}"]),
        pair[f"image_{side}"],
        Path(pair[f"manifest_{side}"]).name,
        pair[f"split_{side}"] or "no split",
        ", ".join(pair[f"labels_{side}"]) or "unlabelled",
    )


def _thumbnail(path: Reference) -> str | None:
    """Return the whole picture, small, as a data URI: a copy may have lost its margins."""
    picture = open_picture(path, SIDE)
    if picture is None:
        return None
    picture.thumbnail((_LONGER_SIDE, _LONGER_SIDE))
    return encode(picture)


def _reasons(pair: Mapping[Any, Any]) -> list[str]:
    reasons: list[str] = []
    if pair["same_content"]:
        reasons.append("equal to the last byte")
    elif pair["hash_distance"] >= 0:
        turned = "" if pair["orientation"] == "upright" else f", {pair['orientation']}"
        reasons.append(f"{pair['hash_distance']} of 256 bits of the hash differ{turned}")
    if pd.notna(pair["cosine"]):
        reasons.append(f"cosine of the features {pair['cosine']:.3f}")
    if pair["same_name"]:
        reasons.append("one name or id")
    for key, told in (("same_lesion", "lesion"), ("same_patient", "patient")):
        if pd.notna(pair[key]):
            reasons.append(f"{'same' if pair[key] else 'other'} {told}")
    return reasons
