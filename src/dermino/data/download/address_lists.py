"""Lists of addresses, as publishers write them, read into targets."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urljoin

import pandas as pd

from dermino.data.columns import require_columns
from dermino.data.download.offer import Offer
from dermino.data.download.target import Crop, Target
from dermino.data.findings import Finding
from dermino.data.lesion_list import read_lesion_list
from dermino.data.text_table import read_text_table
from dermino.files import atomic_path

_UNSAFE = re.compile(r"[^\w.+-]+")
AskJson = Callable[[str], Any]


def read_targets(
    offer: Offer, folder: Path, ask_json: AskJson, findings: list[Finding]
) -> list[Target]:
    """Return what an offer's list names.

    Parameters
    ----------
    offer:
        An offer with a listing.
    folder:
        Where its files have been fetched to.
    ask_json:
        Returns what an API answers to an address.
    findings:
        Rows without a usable address are reported here.
    """
    table = folder / offer.table
    if offer.listing == "scin":
        return list(_scin(table, offer))
    if offer.listing == "fitzpatrick17k":
        return list(_fitzpatrick17k(table, findings))
    if offer.listing == "lesion130k":
        return _lesion130k(table, findings)
    return _isic_archive(offer.table, folder, ask_json, findings)


def _scin(table: Path, offer: Offer) -> Iterator[Target]:
    columns = [f"image_{k}_path" for k in (1, 2, 3)]
    frame = read_text_table(table)
    require_columns(frame, columns, table)
    paths = pd.concat([frame[column] for column in columns]).dropna().unique()
    for path in paths:
        place = f"{PurePosixPath(offer.table).parent}/images/{_safe(PurePosixPath(path).name)}"
        yield Target(urljoin(offer.base, path), place, picture=True)


def _fitzpatrick17k(table: Path, findings: list[Finding]) -> Iterator[Target]:
    frame = read_text_table(table, findings)
    require_columns(frame, ("md5hash", "url"), table)
    for row, name, url in frame[["md5hash", "url"]].itertuples():
        if url:
            yield Target(url, f"images/{_safe(name)}.jpg", picture=True)
        else:
            findings.append(Finding("warning", "row has no address", path=name, row=int(row)))


def _lesion130k(table: Path, findings: list[Finding]) -> list[Target]:
    """Collect the boxes of one picture, which is fetched once; names are the publisher's."""
    crops: dict[str, list[Crop]] = {}
    for number, name, *box, url in read_lesion_list(table, findings).itertuples(index=False):
        name = _safe(name)
        place = f"dataset/{name}/{_safe(number).zfill(5)}_{name}.png"
        x, y, width, height = box
        crops.setdefault(url, []).append(Crop(place, (x, y, width, height)))
    return [
        Target(url, f"pictures/{PurePosixPath(own[0].path).stem}", picture=True, crops=tuple(own))
        for url, own in crops.items()
    ]


def _isic_archive(
    url: str | None, folder: Path, ask_json: AskJson, findings: list[Finding]
) -> list[Target]:
    """Page through the archive's search; write ``metadata.csv`` as its own exports have it."""
    rows: list[dict[str, object]] = []
    targets = []
    while url:
        page = ask_json(url)
        for image in page.get("results", []):
            name = _safe(str(image["isic_id"]))
            row = {key: image.get(key) for key in ("isic_id", "attribution", "copyright_license")}
            for group in (image.get("metadata") or {}).values():
                row |= group or {}
            rows.append(row)
            file = (image.get("files") or {}).get("full") or {}
            if file.get("url"):
                path = f"{name}.jpg"
                targets.append(Target(file["url"], path, size=file.get("size"), picture=True))
            else:
                findings.append(Finding("warning", "row has no address", path=name))
        url = page.get("next")
    with atomic_path(folder / "metadata.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, quoting=csv.QUOTE_MINIMAL)
    return targets


def _safe(name: str) -> str:
    """Make a name from a list one that stays in its folder."""
    return _UNSAFE.sub("_", name).lstrip(".") or "_"
