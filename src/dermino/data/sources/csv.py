"""Any table of images: your own column names, or PanDerm's, beside a folder of pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import ClassVar

import pandas as pd

from dermino.data.columns import require_columns, typed
from dermino.data.file_index import FileIndex
from dermino.data.findings import Finding
from dermino.data.manifest_csv import SEPARATOR, split_labels
from dermino.data.source import SOURCES, Imported, assemble
from dermino.data.source_info import SourceInfo
from dermino.data.text_table import read_text_table
from dermino.errors import UserError, unknown

# Manifest column: the option that names the table's column, and names recognised without it.
_RECOGNISED: dict[str, tuple[str, tuple[str, ...]]] = {
    "image": (
        "image_column",
        (
            "image_path",
            "img_path",
            "path",
            "filepath",
            "file_path",
            "filename",
            "file_name",
            "file",
            "image_name",
            "image_id",
            "img",
            "img_id",
            "isic_id",
        ),
    ),
    "labels": (
        "label_column",
        ("label", "binary_label", "class", "diagnosis", "disease", "dx", "target"),
    ),
    "mask": ("mask_column", ("mask_path", "segmentation", "lesion_mask")),
    "caption": ("caption_column", ("caption_en", "description", "text")),
    "patient_id": ("patient_column", ("patient", "patientid", "subject_id", "case_id")),
    "lesion_id": ("lesion_column", ("lesion", "lesionid")),
    "split": ("split_column", ("fold", "set", "partition", "subset")),
    "modality": ("modality_column", ("image_type",)),
    "skin_type": ("skin_type_column", ("fitzpatrick", "fitzpatrick_skin_type", "fitspatrick")),
    "sex": ("sex_column", ("gender",)),
    "age": ("age_column", ("age_approx", "age_approximate")),
    "site": ("site_column", ("localization", "localisation", "anatom_site_general", "region")),
    "date": ("date_column", ("acquisition_date", "exam_date")),
    "time": ("time_column", ()),
    "event": ("event_column", ()),
}
_TYPED = [name for name in _RECOGNISED if name not in {"image", "labels", "mask"}]


@SOURCES.register("csv")
class Csv:
    """A CSV (or semicolon or tab separated) file with one row per image.

    A column is found by its option, else by the manifest's own name, else by a usual name, which
    is reported. PanDerm's ``image,label|binary_label,split`` files need no option but
    ``image_root``. Rows that cannot be used are reported with their number, never fatal.
    """

    info: ClassVar[SourceInfo] = SourceInfo(name="csv", title="Your own table")
    used_for: ClassVar[tuple[str, ...]] = (
        "pretraining",
        "classification",
        "segmentation",
        "captions",
    )
    layout: ClassVar[str] = "a CSV file with one row per image, and the images below image_root"
    tells: ClassVar[tuple[str, ...]] = ()
    expected_images: ClassVar[int | None] = None

    def read(
        self,
        path: Path,
        image_root: str | Path | None = None,
        label_separator: str = SEPARATOR,
        class_names: str | Path | Mapping[str, str] | None = None,
        name: str | None = None,
        date_format: str | None = None,
        event_values: str | None = None,
        keep_missing: bool = False,
        **columns: str,
    ) -> Imported:
        """Read the table at ``path``.

        Parameters
        ----------
        path:
            The file.
        image_root:
            Folder that the images' names are relative to; the file's own folder by default.
        label_separator:
            What stands between the labels of an image that has several.
        class_names:
            Names of the labels' codes: a mapping, a JSON object or list, or a CSV file with the
            columns ``label,name``. Its order is the vocabulary's.
        name:
            What to call the dataset; the file's name by default.
        date_format:
            How dates are written, such as ``%d.%m.%Y``; by default as 2021-12-31.
        event_values:
            The values of the event column that mean that it was seen, joined by
            ``label_separator``, such as ``1``; all others mean that it was not. By default the
            column holds 1 and 0, or true and false.
        keep_missing:
            Keep rows whose image is absent.
        columns:
            ``image_column``, ``label_column``, ``mask_column``, ``caption_column``,
            ``patient_column``, ``lesion_column``, ``split_column``, ``modality_column``,
            ``skin_type_column``, ``sex_column``, ``age_column``, ``site_column``,
            ``date_column``, ``time_column``, ``event_column``: the table's names for them.
        """
        if not path.is_file():
            raise UserError(f"There is no file '{path}'.", "Give the path of the CSV file.")
        findings: list[Finding] = []
        table = read_text_table(path, findings)
        frame = _renamed(table, columns, path, findings)
        index = FileIndex(image_root or path.parent)
        frame = frame[_usable(frame["image"], "image", index, path, findings)]
        frame = frame.assign(image=[_relative(text, index.root) for text in frame["image"]])
        names = _class_names(class_names)
        if "labels" in frame.columns:
            frame["labels"] = [
                [names.get(label, label) for label in split_labels(text, label_separator)]
                for text in frame["labels"]
            ]
        if "mask" in frame.columns:
            frame["mask"] = _masks(frame["mask"], index, path, findings)
        if date_format is not None and "date" in frame.columns:
            frame["date"] = [_iso_date(text, date_format) for text in frame["date"]]
        if event_values is not None and "event" in frame.columns:
            seen = set(split_labels(str(event_values), label_separator))
            frame["event"] = [
                None if text is None else str(text.strip() in seen) for text in frame["event"]
            ]
        for column in [name for name in _TYPED if name in frame.columns]:
            frame[column] = typed(frame[column], column, path, findings)
        occurring = sorted({label for labels in frame.get("labels", ()) for label in labels})
        info = SourceInfo(
            name or path.stem,
            title=name or path.stem,
            vocabulary=tuple(dict.fromkeys([*names.values(), *occurring])),
        )
        return assemble(
            frame,
            index,
            info,
            findings=findings,
            keep_missing=keep_missing,
            own_table=True,
        )


def _renamed(
    table: pd.DataFrame, columns: Mapping[str, str], path: Path, findings: list[Finding]
) -> pd.DataFrame:
    options = {option: target for target, (option, _) in _RECOGNISED.items()}
    for option in columns:
        if option not in options:
            known = [*options, "image_root", "label_separator", "class_names", "name"]
            known += ["date_format", "event_values", "keep_missing"]
            raise unknown("option of the source 'csv'", option, known)
    chosen = {options[option]: column for option, column in columns.items()}
    require_columns(table, chosen.values(), path)
    by_lower = {str(column).lower(): str(column) for column in table.columns}
    for target, (_, aliases) in _RECOGNISED.items():
        taken = set(chosen.values())
        for alias in (target, *aliases):
            column = by_lower.get(alias)
            if target not in chosen and column is not None and column not in taken:
                chosen[target] = column
                if column != target:
                    problem = f"column '{column}' is read as {target}"
                    remedy = f"Set {_RECOGNISED[target][0]} if another one is meant."
                    findings.append(Finding("note", problem, path=str(path), remedy=remedy))
    require_columns(table, () if "image" in chosen else ("image",), path)
    # A column whose name is given to another one would stand there twice; `dataset` is always
    # what the import is called.
    aside = {name: f"{name}_as_given" for name in chosen if chosen[name] != name}
    aside["dataset"] = "dataset_as_given"
    frame = table.rename(columns={name: aside[name] for name in aside if name in table.columns})
    current = {target: aside.get(column, column) for target, column in chosen.items()}
    return frame.rename(columns={column: target for target, column in current.items()})


def _usable(
    values: pd.Series, name: str, index: FileIndex, path: Path, findings: list[Finding]
) -> pd.Series:
    """Which paths are given and stay inside the root; the others are reported."""
    usable = []
    for row, text in values.items():
        number = int(str(row))
        relative = PurePosixPath(_relative(text or "", index.root))
        if not text or not text.strip():
            remedy = "The row is left out. Fill in the name of the file."
            findings.append(
                Finding("error", f"row names no {name}", path=str(path), row=number, remedy=remedy)
            )
            usable.append(False)
        elif relative.is_absolute() or ".." in relative.parts:
            remedy = f"It is left out. Paths must stay inside '{index.root}': set image_root."
            problem = f"{name} lies outside the root"
            findings.append(Finding("error", problem, text, str(path), number, remedy))
            usable.append(False)
        else:
            usable.append(True)
    return pd.Series(usable, values.index, dtype=bool)


def _relative(text: str, root: Path) -> str:
    """The path below the root, with forward slashes; absolute when it lies elsewhere."""
    name = text.strip().replace("\\", "/")
    if name[1:2] == ":":
        name = "/" + name
    path = PurePosixPath(name)
    above = PurePosixPath(root.absolute().as_posix())
    return path.relative_to(above).as_posix() if path.is_relative_to(above) else path.as_posix()


def _masks(
    values: pd.Series, index: FileIndex, path: Path, findings: list[Finding]
) -> list[str | None]:
    given = values[values.notna()]
    usable = _usable(given, "mask", index, path, findings)
    masks: list[str | None] = []
    for row, text in values.items():
        files = index.named(_relative(text, index.root)) if usable.get(row, False) else []
        if usable.get(row, False) and not files:
            number = int(str(row))
            findings.append(Finding("warning", "mask is missing", text, str(path), number))
        masks.append(files[0] if files else None)
    return masks


def _iso_date(text: str | None, date_format: str) -> str | None:
    """Rewrite a date; one in another form stays as it is, and is reported as it stands there."""
    try:
        return text and datetime.strptime(text.strip(), date_format).date().isoformat()
    except ValueError:
        return f"{text} (not {date_format})"


def _class_names(given: str | Path | Mapping[str, str] | None) -> dict[str, str]:
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {str(code): str(name) for code, name in given.items()}
    path = Path(given)
    if path.suffix.lower() == ".json":
        return dict(_json_names(path))
    table = read_text_table(path)
    require_columns(table, ("label", "name"), path)
    return dict(zip(table["label"], table["name"], strict=True))


def _json_names(path: Path) -> Iterator[tuple[str, str]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"Cannot read the class names in '{path}': {error}.") from error
    if not isinstance(content, dict | list):
        raise UserError(f"'{path}' is neither a JSON object nor a list.", 'Write {"0": "nevus"}.')
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    return ((str(code), str(name)) for code, name in pairs)
