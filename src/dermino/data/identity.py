"""Which rows are one image, lesion or patient, by the names that publishers give them.

Names are compared within a dataset, and across datasets where an archive gives one name to a
picture, a lesion or a patient whatever the dataset, or where a dataset says from which image of
another one its own was taken.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import PurePosixPath

import pyarrow as pa

from dermino.data.manifest import Manifest
from dermino.data.reference import SEPARATOR

NAME_COLUMNS = ("dataset", "image", "origin")

# The ISIC archive's challenges, HAM10000, BCN20000, HIBA and others are datasets that share them.
# What follows the id, such as _downsampled or _segmentation, is another form of the same picture.
_ISIC_IMAGE = re.compile(r"ISIC_\d{7}")
_ISIC_GROUP = re.compile(r"(HAM|BCN|MSK\d?|IL|IP)_\d{7}")
_MD5 = re.compile(r"[0-9a-f]{32}")


def image_names(manifest: Manifest) -> pa.Table:
    """Return what the images of a manifest are called, one row an image, to look others up by.

    Columns ``dataset``, ``image`` (what it was called before it went into a shard) and
    ``origin``: the image of another dataset that it was taken from, as ``dataset/name``, or null.
    """
    columns = [manifest.table["dataset"], manifest.original_images, _origins(manifest)]
    return pa.table(dict(zip(NAME_COLUMNS, columns, strict=True)))


def group_names(manifest: Manifest, column: str) -> list[str | None]:
    """Name each row's patient or lesion so that equal names mean one patient or lesion.

    Parameters
    ----------
    manifest:
        n rows.
    column:
        ``patient_id`` or ``lesion_id``. Some publishers number lesions anew for each patient.

    Returns
    -------
    list
        n names; None where it is not known.
    """
    of = manifest.column("patient_id") if column == "lesion_id" else [None] * len(manifest)
    datasets = manifest.column("dataset")
    return [
        group if group is None or _ISIC_GROUP.fullmatch(group) else f"{dataset}/{one or ''}/{group}"
        for dataset, one, group in zip(datasets, of, manifest.column(column), strict=True)
    ]


class NameIndex:
    """Images to look others up among.

    Parameters
    ----------
    names:
        As :func:`image_names` gives them; ``origin`` may be absent.
    """

    def __init__(self, names: pa.Table) -> None:
        self._rows: defaultdict[str, list[int]] = defaultdict(list)
        self._folders: list[tuple[str, ...]] = []
        for row, (dataset, image, origin) in enumerate(_each(names)):
            self._folders.append(_folders(image))
            self._rows[_key(dataset, image)].append(row)
            if origin is not None:
                self._rows[origin].append(row)

    def find(self, names: pa.Table) -> Iterator[list[int]]:
        """Yield for each image the rows of the index that are the same image.

        Images are the same when they carry the same ISIC id, when one was taken from the other or
        both from a third, or when dataset and base name without extension are equal. Where several
        images, among those of the index or those looked up, have one name, the folders that both
        paths have must be the same too.
        """
        asked = list(_each(names))
        repeated = Counter(
            _key(*name) for name in {(dataset, image) for dataset, image, _ in asked}
        )
        for dataset, image, origin in asked:
            key = _key(dataset, image)
            found = self._rows.get(key, [])
            ambiguous = repeated[key] > 1 or len({self._folders[row] for row in found}) > 1
            if ambiguous and not _ISIC_IMAGE.fullmatch(key):
                folders = _folders(image)
                found = [row for row in found if _agree(self._folders[row], folders)]
            if origin is not None:
                found = list(dict.fromkeys([*found, *self._rows.get(origin, [])]))
            yield found


def shared_names(names: pa.Table) -> list[list[int]]:
    """Group the rows of one collection that are the same picture by ISIC id or origin.

    Base names are not compared: within one collection equal ones are different images. Returns
    the groups of more than one row.
    """
    rows: defaultdict[str, list[int]] = defaultdict(list)
    origins = {origin for *_, origin in _each(names) if origin is not None}
    for row, (dataset, image, origin) in enumerate(_each(names)):
        key = _key(dataset, image)
        if _ISIC_IMAGE.fullmatch(key) or key in origins:
            rows[key].append(row)
        if origin is not None and origin != key:
            rows[origin].append(row)
    return [members for members in rows.values() if len(members) > 1]


def _origins(manifest: Manifest) -> pa.Array:
    """What SkinCAP's ``ori_file_path`` and ``source`` say: images of Fitzpatrick17k and DDI."""
    names = manifest.column("ori_file_path")
    sources = manifest.column("source")
    return pa.array(map(_origin, names, sources), pa.string())


def _origin(name: str | None, source: str | None) -> str | None:
    if not name:
        return None
    stem = PurePosixPath(name).stem
    return f"{source or ('fitzpatrick17k' if _MD5.fullmatch(stem) else 'ddi')}/{stem}"


def _each(names: pa.Table) -> Iterator[tuple[str, str, str | None]]:
    origins = names["origin"].to_pylist() if "origin" in names.column_names else None
    datasets, images = names["dataset"].to_pylist(), names["image"].to_pylist()
    yield from zip(datasets, images, origins or [None] * len(images), strict=True)


def _key(dataset: str, image: str) -> str:
    name = PurePosixPath(image).stem
    isic = _ISIC_IMAGE.search(name)
    return isic.group() if isic else f"{dataset}/{name}"


def _folders(image: str) -> tuple[str, ...]:
    """The folders of a path, innermost first; of one in an archive those inside it."""
    return PurePosixPath(image.rpartition(SEPARATOR)[2]).parent.parts[::-1]


def _agree(folders: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Whether two paths may be of one file, seen from roots that lie higher or lower."""
    return all(one == other for one, other in zip(folders, others, strict=False))
