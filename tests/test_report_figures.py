from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dermino.errors import UserError
from dermino.report import report
from dermino.report.balance import balance
from dermino.report.bars import bar_exhibits
from dermino.report.captions import caption_examples
from dermino.report.comparisons import read_comparisons
from dermino.report.critical_difference import critical_differences, runs_of_alike
from dermino.report.exhibit import Exhibit
from dermino.report.fairness import fairness_exhibits
from dermino.report.hardest import hardest_cases
from dermino.report.learning_curves import learning_curves
from dermino.report.numbers import latex_text
from dermino.report.overlays import overlay_examples
from dermino.report.pictures import outline
from dermino.report.reliability import calibration_error, reliability_table
from dermino.report.results import Results
from dermino.report.risk_coverage import risk_at
from dermino.report.significance import significance
from dermino.report.style import marks
from dermino.report.task_section import task_section
from results_maker import ENCODERS, SENTENCE, TASKS, ResultsMaker


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ResultsMaker(tmp_path_factory.mktemp("suite") / "results").write()


@pytest.fixture(scope="module")
def found(folder: Path) -> Results:
    return Results.read(folder)


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    out = tmp_path_factory.mktemp("page")
    path = report(folder, out / "report.html", tables=out / "tables")
    return path.read_text(encoding="utf-8"), out / "tables"


def _task(found: Results, name: str) -> Any:
    return next(task for task in found.tasks if task.name == name)


def test_page_shows_every_figure_of_the_suite(page: tuple[str, Path]) -> None:
    text = page[0]
    headings = re.findall(r"<h[23]>([^<]*)</h[23]>", text)
    for heading in (
        "Balance over families of tasks",
        "Linear probe: Macro AUROC",
        "Segmentation, UperNet: Lesion masks",
        "Captions: Captions",
        "Ranks over tasks",
        "ROC curves",
        "Reliability",
        "Risk and coverage",
        "Label efficiency",
        "By skin type",
        "Significance",
        "Confusion matrices",
        "Hardest cases",
        "Outlines",
        "Examples of captions",
    ):
        assert heading in headings
    assert text.count("<h3>Hardest cases</h3>") == len(TASKS)
    assert "By confidence" not in text
    assert "‡ test images seen in pretraining with their labels" in text
    assert SENTENCE in text


def test_numbers_lie_in_the_page_and_in_the_folder(page: tuple[str, Path]) -> None:
    text, tables = page
    held = dict(re.findall(r'download="([^"]+)" href="data:[^,]+,([^"]+)"', text))
    assert set(held) == {path.name for path in tables.iterdir()}
    for name, content in held.items():
        assert base64.b64decode(content) == (tables / name).read_bytes()
    read = pd.read_csv(tables / "bars-linear-macro_auroc.csv")
    assert set(read["encoder"]) == set(ENCODERS)
    assert "\\toprule" in (tables / "bars-linear-macro_auroc.tex").read_text()


def test_nothing_about_single_images_is_kept_without_images(found: Results) -> None:
    for task in ("masks", "captions"):
        shown = task_section(found, _task(found, task), marks(ENCODERS), images=True)
        assert shown.overlays or shown.captions
        left = task_section(found, _task(found, task), marks(ENCODERS), images=False)
        assert not left.captions | left.overlays


def test_bars_hold_the_values_and_tell_what_was_seen(found: Results) -> None:
    exhibits = {exhibit.name: exhibit for exhibit in bar_exhibits(found, marks(ENCODERS))}
    assert not any("label-efficiency" in name for name in exhibits)
    bars = exhibits["bars-linear-macro_f1"]
    assert [panel.title for panel in bars.panels] == list(TASKS.values())
    assert "dermino‡" in bars.panels[0].figure
    assert "panderm†" in bars.panels[0].figure
    table = found.table.query("protocol == 'linear' and metric == 'macro_f1'")
    assert sorted(bars.numbers["value"]) == sorted(table["value"])


def test_balance_averages_the_tasks_of_a_family(found: Results) -> None:
    exhibit = balance(found)
    assert exhibit is not None
    wanted = found.table.query(
        "encoder == 'dinov2' and protocol == 'linear' and metric == 'macro_auroc' "
        "and subgroup == 'all'"
    )["value"].mean()
    own = exhibit.numbers.set_index(["encoder", "family"]).loc["dinov2", "linear, macro_auroc"]
    assert own["value"] == pytest.approx(wanted)
    assert own["tasks"] == 3
    assert len(exhibit.grids[0].columns) == 5


def test_ranks_that_are_not_told_apart_are_joined(found: Results) -> None:
    assert runs_of_alike(np.array([1.0, 1.5, 3.0, 3.2]), 0.6) == [(0, 1), (2, 3)]
    assert runs_of_alike(np.array([1.0, 2.0, 3.0]), 1.0) == [(0, 1), (1, 2)]
    assert runs_of_alike(np.array([1.0, 3.0]), 1.0) == []
    exhibit = critical_differences(found, marks(ENCODERS))
    assert exhibit is not None
    assert len(exhibit.panels) == 4
    assert "little power" in exhibit.text


def test_significance_prefers_the_permutation_test_and_mirrors_pairs(found: Results) -> None:
    exhibit = significance(found, _task(found, "ham"))
    assert exhibit is not None
    assert set(exhibit.numbers["test"]) == {"permutation"}
    cells = {
        (row, column): cell
        for row, own in exhibit.grids[0].rows
        for column, cell in zip(exhibit.grids[0].columns, own, strict=True)
    }
    assert cells["dermino", "dinov2"].text == "▲ +0.140"
    assert cells["dinov2", "dermino"].text == "▼ −0.140"
    assert cells["dermino", "panderm"].text == "+0.070"
    assert cells["dermino", "dermino"].text == ""
    assert significance(found, _task(found, "masks")) is None


def test_subgroups_tell_small_groups_and_gaps(found: Results) -> None:
    (exhibit,) = fairness_exhibits(found, _task(found, "ham"), marks(ENCODERS))
    assert "V-VI, 3 images (few)" in exhibit.panels[0].figure
    assert "I-II, 28 images<" in exhibit.panels[0].figure
    assert [cells[0].text for _, cells in exhibit.grids[0].rows] == ["0.080"] * 4


def test_learning_curves_go_over_shares_in_their_order(found: Results) -> None:
    (exhibit,) = learning_curves(found, _task(found, "ham"), marks(ENCODERS))
    own = exhibit.numbers[exhibit.numbers["encoder"] == "dermino"]
    assert own["percent"].tolist() == [1, 10, 100]
    assert own["value"].tolist() == pytest.approx([0.5, 0.6, 0.7])


def _scored(confidences: list[float], right: list[bool]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image": [f"{number}.jpg" for number in range(len(right))],
            "target": ["a" if hit else "b" for hit in right],
            "predicted": "a",
            "score:a": confidences,
            "score:b": [1 - value for value in confidences],
        }
    )


def test_reliability_is_the_accuracy_in_bins_of_confidence() -> None:
    frame = _scored([0.95, 0.95, 0.65, 0.65], [True, True, True, False])
    table = reliability_table(frame)
    assert table is not None
    assert table["confidence"].tolist() == pytest.approx([0.65, 0.95])
    assert table["accuracy"].tolist() == [0.5, 1.0]
    assert calibration_error(table) == pytest.approx((0.15 + 0.05) / 2)
    assert reliability_table(frame.assign(**{"score:a": 3.0})) is None


def test_risk_is_the_error_of_the_surest_and_ties_are_averaged() -> None:
    frame = _scored([0.9, 0.8, 0.6, 0.6], [True, False, True, False])
    coverage = np.array([0.25, 0.5, 0.75, 1.0])
    assert risk_at(frame, coverage).tolist() == pytest.approx([0, 1 / 2, 1.5 / 3, 2 / 4])
    assert risk_at(frame.iloc[::-1], coverage).tolist() == risk_at(frame, coverage).tolist()


def test_hardest_cases_are_the_confident_errors_of_all_encoders() -> None:
    one = _scored([0.99, 0.95, 0.7, 0.9], [True, False, False, False])
    other = _scored([0.99, 0.6, 0.9, 0.9], [True, False, False, False])
    cases = hardest_cases({"one": one, "other": other}, "nowhere", 9)
    assert [case.image for case in cases] == ["3.jpg", "2.jpg", "1.jpg"]
    assert [verdict.confidence for verdict in cases[0].verdicts] == [0.9, 0.9]
    assert cases[0].data is None
    assert cases[0].target == "b"


def test_outlines_lie_at_fixed_places_from_hard_to_easy(found: Results) -> None:
    frames, folders = {}, {}
    for name in ENCODERS:
        frame = found.predictions("masks", name, "segmentation-linear")
        assert frame is not None
        frames[name] = frame
        folders[name] = found.files("masks", name, "segmentation-linear")
    examples = overlay_examples(frames, folders, _task(found, "masks").root)
    assert [example.image for example in examples] == [f"{n}.jpg" for n in (2, 10, 20, 29, 37)]
    assert all(overlay.data for example in examples for overlay in example.overlays)
    square = np.pad(np.ones((4, 4), bool), 1)
    assert outline(square).sum() == 12


def test_captions_stand_beside_their_reference() -> None:
    frame = pd.DataFrame({"image": ["a", "b"], "reference": ["x", "y"], "generated": ["p", "q"]})
    examples = caption_examples({"one": frame, "other": frame.iloc[1:]}, "nowhere", 5, seed=0)
    assert [(e.image, e.reference, e.generated) for e in examples] == [
        ("b", "y", [("one", "q"), ("other", "q")])
    ]
    assert caption_examples({"one": frame[["image"]]}, "nowhere", 5, seed=0) == []


def test_latex_has_a_column_for_each_task_and_escapes() -> None:
    numbers = pd.DataFrame(
        {
            "task": ["a_1", "b&c", "a_1"],
            "encoder": ["x", "x", "y"],
            "value": [0.5, 0.25, np.nan],
            "ci_low": [0.4, np.nan, np.nan],
            "ci_high": [0.6, np.nan, np.nan],
            "n": 9,
            "seen_in_pretraining": ["none", "images+labels", "none"],
        }
    )
    text = latex_text(numbers, "50 % of a_1", "bars", "task")
    assert r"encoder & a\_1 & b\&c \\" in text
    assert r"x & 0.500 (0.400–0.600) & 0.250‡ \\" in text
    assert r"y & -- & -- \\" in text
    assert r"\caption{50 \% of a\_1}" in text
    assert Exhibit("a", "b", "c").downloads == []


def test_unreadable_comparisons_are_named(tmp_path: Path) -> None:
    assert read_comparisons(tmp_path).empty
    (tmp_path / "comparisons.csv").write_text("task,protocol\n")
    with pytest.raises(UserError, match="no column 'metric'"):
        read_comparisons(tmp_path)
