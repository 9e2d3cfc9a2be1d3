"""The RESULTS folder: one tidy table, what it was made from, and the predictions beside it.

Everything is written as soon as one protocol of one task and encoder is done, so an evaluation can
be stopped and taken up again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dermino.errors import UserError
from dermino.evaluate.predictions import Cell, KeptPredictions
from dermino.files import atomic_path, writable_folder, write_json
from dermino.progress import console

COLUMNS = [
    "encoder",
    "task",
    "protocol",
    "subgroup",
    "metric",
    "value",
    "ci_low",
    "ci_high",
    "n",
    "seen_in_pretraining",
    "run_id",
    "note",
]
EVERYBODY = "all"
_RECORDS = ("encoders", "tasks", "protocols", "analyses", "exposures")


class ResultsFolder:
    """Reads what an earlier evaluation left, and adds to it.

    Parameters
    ----------
    folder:
        Made when absent.

    Raises
    ------
    UserError
        If the folder cannot be written to or holds something else under our names.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = writable_folder(folder)
        self.predictions = KeptPredictions(self.folder)
        self.table = self._read_table()
        self.description = self._read_description()

    def has(self, cell: Cell) -> bool:
        """Tell whether the results of a cell are there already."""
        rows = self.table[self._is(cell)]
        return bool(len(rows)) and set(rows["run_id"]) == {cell.run_id}

    def rows(self, cells: Iterable[Cell]) -> pd.DataFrame:
        """Return the rows of some cells, in the order of the cells."""
        parts = [self.table[self._is(cell)] for cell in cells]
        return pd.concat(parts, ignore_index=True)

    def describe(
        self, description: Mapping[str, Any], records: Mapping[str, Iterable[dict[str, Any]]]
    ) -> None:
        """Write ``evaluation.json``; records of encoders, tasks and protocols not named stay.

        Rows of an encoder or task that is another one now, under the same name, are dropped, so
        that the table never mixes two under one name.
        """
        kept = {}
        for kind in _RECORDS:
            by_name = {record["name"]: record for record in self.description.get(kind, [])}
            by_name.update({record["name"]: record for record in records.get(kind, ())})
            kept[kind] = list(by_name.values())
        self._drop_others("encoder", "identity", kept["encoders"])
        self._drop_others("task", "fingerprint", kept["tasks"])
        self._renew_exposures(records.get("exposures", ()))
        self.description = {**description, **kept}
        write_json(self.folder / "evaluation.json", self.description)

    def add(self, cell: Cell, scores: Sequence[Mapping[str, Any]]) -> None:
        """Write the rows of one cell, in place of earlier ones; its checkpoints may go."""
        shared = {"encoder": cell.encoder, "task": cell.task, "protocol": cell.protocol}
        rows = [{**shared, "subgroup": EVERYBODY, "run_id": cell.run_id, **row} for row in scores]
        added = pd.DataFrame(rows).reindex(columns=COLUMNS)
        others = self.table[~self._is(cell)]
        self.table = pd.concat([others, added], ignore_index=True) if len(others) else added
        self._write_table()
        self.predictions.remove_work(cell)

    def add_rows(self, cell: Cell, rows: Sequence[Mapping[str, Any]]) -> None:
        """Add rows to those of a cell, in place of earlier ones of the same subgroup and metric."""
        if not rows:
            return
        own = self.table[self._is(cell)]
        shared = own.iloc[0][["encoder", "task", "protocol", "seen_in_pretraining", "run_id"]]
        added = pd.DataFrame([{"subgroup": EVERYBODY, **shared, **row} for row in rows])
        added = added.reindex(columns=COLUMNS)
        renewed = set(zip(added["subgroup"], added["metric"], strict=True))
        keys = zip(self.table["subgroup"], self.table["metric"], strict=True)
        same = np.array([key in renewed for key in keys]) & self._is(cell)
        self.table = pd.concat([self.table[~same], added], ignore_index=True)
        self._write_table()

    def _is(self, cell: Cell) -> pd.Series:
        table = self.table
        return (
            (table["encoder"] == cell.encoder)
            & (table["task"] == cell.task)
            & (table["protocol"] == cell.protocol)
        )

    def _drop_others(self, column: str, key: str, records: list[dict[str, Any]]) -> None:
        before = {r["name"]: r.get(key) for r in self.description.get(f"{column}s", [])}
        changed = [
            record["name"]
            for record in records
            if record["name"] in before and before[record["name"]] != record.get(key)
        ]
        stale = self.table[column].isin(changed)
        for name in self.table.loc[stale, column].unique():
            console.print(
                f"The {column} '{name}' is not the one that earlier results are of; its "
                f"{int((self.table[column] == name).sum())} rows are removed.",
                markup=False,
                soft_wrap=True,
            )
        if stale.any():
            self.table = self.table[~stale].reset_index(drop=True)
            self._write_table()

    def _renew_exposures(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Correct what rows say was seen: an audit may have been made since they were written."""
        kinds = {record["name"]: record["kind"] for record in records}
        told = (self.table["encoder"] + "/" + self.table["task"]).map(kinds)
        now = told.fillna(self.table["seen_in_pretraining"])
        if not now.equals(self.table["seen_in_pretraining"]):
            self.table["seen_in_pretraining"] = now
            self._write_table()

    def _write_table(self) -> None:
        with atomic_path(self.folder / "results.csv") as temporary:
            self.table.to_csv(temporary, index=False, na_rep="nan")

    def _read_table(self) -> pd.DataFrame:
        path = self.folder / "results.csv"
        if not path.is_file():
            return pd.DataFrame(columns=COLUMNS)
        texts = {name: str for name in COLUMNS if name not in {"value", "ci_low", "ci_high", "n"}}
        try:
            table = pd.read_csv(path, dtype=texts, keep_default_na=False, na_values=["nan"])
        except ValueError as error:
            raise self._foreign(path, str(error)) from error
        if list(table.columns) != COLUMNS:
            raise self._foreign(path, "it has other columns")
        return table

    def _read_description(self) -> dict[str, Any]:
        path = self.folder / "evaluation.json"
        if not path.is_file():
            return {}
        try:
            description = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise self._foreign(path, str(error)) from error
        if not isinstance(description, dict):
            raise self._foreign(path, "it is no JSON object")
        return description

    def _foreign(self, path: Path, reason: str) -> UserError:
        return UserError(
            f"'{path}' was not written by dermino evaluate: {reason}.",
            "Give another folder, or remove the file.",
        )
