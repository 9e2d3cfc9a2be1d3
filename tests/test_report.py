from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from dermino.cli.main import main
from dermino.errors import UserError
from dermino.report import report
from dermino.report.confusion import MOST_CLASSES, confusion
from dermino.report.gallery import choose
from dermino.report.results import Results
from dermino.report.roc_curves import roc_exhibit
from dermino.report.style import marks

CLASSES = ["nevus", "melanoma", "keratosis"]
ENCODERS = ["mine", "start"]
SECTIONS = ["task-1", "pretraining", "seen", "method", "data", "provenance"]


class Page(HTMLParser):
    """What a test asks of a page: ids, references, images, text, and the text of each row."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.references: list[str] = []
        self.tags: list[str] = []
        self.alts: list[str | None] = []
        self.rows: list[str] = []
        self.text = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.ids += [given["id"]] if given.get("id") else []
        self.references += [
            value or ""
            for name, value in attrs
            if name in {"src", "href", "xlink:href", "srcset", "action", "data"}
        ]
        if tag == "img":
            self.alts.append(given.get("alt"))
        if tag == "tr":
            self.rows.append("")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.rows:
            self.rows[-1] += f" {data.strip()}"


def _predictions(encoder: str, protocol: str, images: list[str], train: list[str]) -> pd.DataFrame:
    random = np.random.default_rng(len(encoder) + len(protocol))
    targets = np.array([CLASSES[i % 3] for i in range(len(images))])
    scores = random.dirichlet(np.ones(3), len(images))
    scores[np.arange(len(images)), np.arange(len(images)) % 3] += 0.3
    frame = pd.DataFrame(
        {
            "image": images,
            "target": targets,
            "predicted": np.array(CLASSES)[scores.argmax(axis=1)],
            **{f"score:{name}": scores[:, i] for i, name in enumerate(CLASSES)},
        }
    )
    if protocol == "retrieval":
        near = [random.choice(len(train), 5, replace=False) for _ in images]
        frame["neighbours"] = [[train[i] for i in row] for row in near]
        frame["similarities"] = [np.linspace(0.9, 0.5, 5).tolist() for _ in images]
        frame["neighbour_targets"] = [[CLASSES[i % 3] for i in row] for row in near]
    return frame


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return _write_results(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A RESULTS folder and its page, for tests that only read them."""
    folder = tmp_path_factory.mktemp("whole")
    results = _write_results(folder)
    return results, report(results, folder / "out" / "report.html")


def _write_results(tmp_path: Path) -> Path:
    """A RESULTS folder with two encoders, one task, two protocols, images and a pretraining run."""
    random = np.random.default_rng(0)
    root, folder, run = tmp_path / "images", tmp_path / "results", tmp_path / "run"
    root.mkdir()
    run.mkdir()
    train = [f"train {i}.png" for i in range(12)]
    test = [f"test {i}.png" for i in range(24)]
    for name in train + test:
        pixels = random.integers(0, 255, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / name)
    rows = []
    for encoder in ENCODERS:
        for protocol in ("retrieval", "linear"):
            path = folder / "predictions" / "demo" / f"{encoder}.{protocol}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            _predictions(encoder, protocol, test, train).to_parquet(path)
            for metric in ("macro_auroc", "macro_f1"):
                value = random.uniform(0.4, 0.9)
                rows.append(
                    {
                        "encoder": encoder,
                        "task": "demo",
                        "protocol": protocol,
                        "subgroup": "all",
                        "metric": metric,
                        "value": value,
                        "ci_low": value - random.uniform(0.01, 0.1),
                        "ci_high": value + random.uniform(0.01, 0.1),
                        "n": len(test),
                        "seen_in_pretraining": "images",
                        "run_id": "abc123",
                        "note": "",
                    }
                )
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False, na_rep="nan")
    evaluation = {
        "run_id": "abc123",
        "created": "2026-01-31T12:00:00+00:00",
        "versions": {"dermino": "0.1.0"},
        "command": ["dermino", "evaluate", "--data", "a file.parquet"],
        "seed": 7,
        "bootstrap": {"replicates": 1000, "confidence": 0.95, "method": "percentile"},
        "encoders": [
            {
                "name": name,
                "parameters": 5_489_856,
                "seen": {"Demo": {"images": 1234, "labelled": 567}} if name == "mine" else None,
                "run": str(run) if name == "mine" else None,
            }
            for name in ENCODERS
        ],
        "tasks": [
            {
                "name": "demo",
                "dataset": "Demo",
                "title": "Demo images",
                "root": str(root),
                "classes": CLASSES,
                "n_train": 12,
                "n_test": 24,
                "counts_train": dict.fromkeys(CLASSES, 4),
                "counts_test": dict.fromkeys(CLASSES, 8),
                "licence": "CC0",
                "citation": "Nobody et al.",
                "synthetic": True,
                "notes": ["one class was left out"],
            }
        ],
        "protocols": [
            {"name": "retrieval", "title": "Retrieval", "parameters": {"k": 5}},
            {"name": "linear", "title": "Linear probe", "description": "One layer."},
        ],
        "exposures": [{"name": "mine/demo", "kind": "images", "test_images": 17}],
    }
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    records = [
        {"step": s, "total": 9 - s / 50, "patch": 4.0, "learning_rate": 1e-4} for s in range(1, 101)
    ]
    (run / "metrics.jsonl").write_text("\n".join(json.dumps(r) for r in records) + '\n{"step": 10')
    plan = {"method": "dermino", "steps": 200, "batch_size": 64, "init": "random weights"}
    (run / "plan.json").write_text(json.dumps(plan))
    return folder


def test_page_has_every_section(whole: tuple[Path, Path]) -> None:
    page = Page(whole[1])
    assert [name for name in page.ids if name in SECTIONS] == SECTIONS
    for said in (
        "2 encoders on Demo",
        "For research use only.",
        "Generated images.",
        "ROC curves",
        "Confusion matrices",
        "nearest neighbours",
        "Total loss",
        "Learning rate",
        "not finished: the log ends at step 100",
        "1,234",
        "567 labelled",
        "17 test images",
        "1,000 bootstrap replicates",
        "CC0",
        "Nobody et al.",
        "one class was left out",
        "dermino evaluate --data 'a file.parquet'",
        "No pretraining run was found for start",
    ):
        assert said in page.text
    assert page.tags.count("img") == 8 * (1 + 2 * 5)
    assert all(page.alts)


def test_numbers_are_those_of_the_table(whole: tuple[Path, Path]) -> None:
    page = Page(whole[1])
    for row in pd.read_csv(whole[0] / "results.csv").itertuples():
        cells = next(line for line in page.rows if line.split()[:1] == [row.encoder])
        assert f"{row.value:.3f} {row.ci_low:.3f}–{row.ci_high:.3f}" in cells


def test_page_asks_nothing_of_the_network(whole: tuple[Path, Path]) -> None:
    path = whole[1]
    page = Page(path)
    assert page.references
    assert all(reference.startswith(("#", "data:")) for reference in page.references)
    text = path.read_text(encoding="utf-8")
    assert "@import" not in text
    assert text.count("url(") == text.count("url(#")
    assert "script" not in page.tags
    assert path.stat().st_size < 1_500_000


def test_same_results_give_the_same_page(whole: tuple[Path, Path], tmp_path: Path) -> None:
    results, page = whole
    assert report(results, tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_missing_pieces_are_said_in_a_sentence(results: Path, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "images")
    shutil.rmtree(tmp_path / "run")
    page = Page(report(results, tmp_path / "report.html"))
    assert "of the pictures could not be read" in page.text
    assert "There is no log of a pretraining run" in page.text
    assert "img" not in page.tags

    shutil.rmtree(results / "predictions")
    (results / "evaluation.json").unlink()
    page = Page(report(results, tmp_path / "report.html"))
    for said in (
        "no predictions with scores to draw ROC curves or to count confusions from",
        "no retrieval results",
        "not recorded which images",
        "It was not stored how the intervals were made.",
        "no evaluation.json",
    ):
        assert said in " ".join(page.text.split())


def _change(results: Path, record: str, **values: object) -> None:
    """Change every record of a kind in ``evaluation.json``."""
    path = results / "evaluation.json"
    evaluation = json.loads(path.read_text())
    evaluation[record] = [{**item, **values} for item in evaluation[record]]
    path.write_text(json.dumps(evaluation))


def test_images_without_labels_are_shown_with_their_neighbours(
    results: Path, tmp_path: Path
) -> None:
    _change(results, "tasks", classes=[], counts_train={}, counts_test={})
    table = pd.read_csv(results / "results.csv").query("protocol == 'retrieval'")
    table = table.assign(value=np.nan, ci_low=np.nan, ci_high=np.nan, note="no labels")
    table.to_csv(results / "results.csv", index=False, na_rep="nan")
    for path in (results / "predictions" / "demo").iterdir():
        path.unlink()
        if ".retrieval." in path.name:
            images = [f"test {i}.png" for i in range(24)]
            near = [[f"train {(i + j) % 12}.png" for j in range(5)] for i in range(24)]
            pd.DataFrame({"image": images, "neighbours": near}).to_parquet(path)
    page = Page(report(results, tmp_path / "report.html"))
    text = " ".join(page.text.split())
    assert "The images carry no labels, so nothing can be scored" in text
    assert page.tags.count("img") == 8 * (1 + 2 * 5)
    assert "Total loss" in text
    for absent in ("✓", "✕", "Macro AUROC", "bootstrap replicates", *CLASSES, "None"):
        assert absent not in text


def test_pictures_can_be_left_out(results: Path, tmp_path: Path) -> None:
    page = Page(report(results, tmp_path / "report.html", images=False))
    assert "img" not in page.tags
    assert "test 1.png" not in page.text
    assert "Single test images, what was said of them" in page.text
    assert "Confusion matrices" in page.text


def test_an_encoder_without_run_folder_is_taken_at_its_files_word(
    results: Path, tmp_path: Path
) -> None:
    for seen, said in (
        (None, "unknown"),
        ({}, "no image seen"),
        ({"Demo": {"images": 1200}, "Ham": {"images": 34}}, "1,234 images of Demo, Ham"),
    ):
        _change(results, "encoders", seen=seen, run=None)
        page = Page(report(results, tmp_path / "report.html"))
        assert said in next(row for row in page.rows if "5.5 M" in row)
        assert ("No encoder here was pretrained on any image." in page.text) == (seen == {})


def test_undefined_metric_shows_its_reason(results: Path, tmp_path: Path) -> None:
    table = pd.read_csv(results / "results.csv")
    table.loc[0, ["value", "ci_low", "ci_high"]] = np.nan
    table["note"] = table["note"].astype(object)
    table.loc[0, "note"] = "class 'nevus' has no test image"
    table.to_csv(results / "results.csv", index=False, na_rep="nan")
    page = Page(report(results, tmp_path / "report.html"))
    assert any("– class 'nevus' has no test image" in row for row in page.rows)


def test_highest_value_is_bold_and_overlap_is_marked(results: Path, tmp_path: Path) -> None:
    table = pd.read_csv(results / "results.csv")
    is_f1 = table["metric"] == "macro_f1"
    mine = table["encoder"] == "mine"
    for rows, interval in [
        (mine, (0.8, 0.7, 0.9)),
        (~mine & is_f1, (0.6, 0.5, 0.65)),
        (~mine & ~is_f1, (0.75, 0.6, 0.85)),
    ]:
        table.loc[rows, ["value", "ci_low", "ci_high"]] = interval
    table.to_csv(results / "results.csv", index=False)
    path = report(results, tmp_path / "report.html")
    page = Page(path)
    assert path.read_text(encoding="utf-8").count("<strong>0.800</strong>") == 4
    assert page.text.count("≈ 0.750") == 2
    assert "≈ 0.600" not in page.text
    assert "in 2 of 4 columns" in page.text


def test_names_are_text_and_not_markup(results: Path, tmp_path: Path) -> None:
    for path in (results / "results.csv", results / "evaluation.json"):
        path.write_text(path.read_text().replace("start", "<b>$x$&"))
    text = report(results, tmp_path / "report.html", title="<i>").read_text(encoding="utf-8")
    assert "<b>$" not in text
    assert "<i>" not in text
    assert "&lt;b&gt;$x$&amp;" in text


def test_roc_areas_agree_with_scikit_learn() -> None:
    images = [f"{i}.png" for i in range(60)]
    frame = _predictions("mine", "linear", images, [])
    found = roc_exhibit({"mine": frame}, CLASSES, marks(["mine"]), "demo", "Linear probe")
    assert found is not None
    assert [panel.title for panel in found.panels] == ["Macro average", *CLASSES]
    scores = frame[[f"score:{name}" for name in CLASSES]].to_numpy()
    areas = [roc_auc_score(frame["target"] == n, scores[:, i]) for i, n in enumerate(CLASSES)]
    assert found.numbers["value"].tolist() == pytest.approx([np.mean(areas), *areas])


def test_roc_of_two_classes_is_one_panel_and_of_one_class_none() -> None:
    frame = _predictions("mine", "linear", [f"{i}.png" for i in range(60)], [])
    looks = marks(["mine"])
    two = frame[frame["target"] != "keratosis"]
    found = roc_exhibit({"mine": two}, CLASSES[:2], looks, "demo", "")
    assert found is not None
    assert [panel.title for panel in found.panels] == ["melanoma"]
    one = frame[frame["target"] == "nevus"]
    assert roc_exhibit({"mine": one}, CLASSES, looks, "demo", "") is None


def test_confusion_counts_and_shares() -> None:
    frame = pd.DataFrame({"target": list("aaab"), "predicted": list("aabb")})
    matrix = confusion(frame, ["a", "b", "c"], "mine")
    assert [[cell.count for cell in row[2]] for row in matrix.rows] == [
        [2, 1, 0],
        [0, 1, 0],
        [0] * 3,
    ]
    assert matrix.rows[0][2][0].share == pytest.approx(2 / 3)
    assert matrix.rows[2][2][0].share == 0
    many = confusion(frame, ["a", "b", *map(str, range(MOST_CLASSES))], "mine")
    assert many.pairs == [("a", "b", 1, pytest.approx(1 / 3))]


def test_gallery_takes_half_right_half_wrong_and_every_class() -> None:
    targets = np.repeat(["a", "b", "c", "d"], 25)
    right = np.arange(100) % 5 > 1
    frame = pd.DataFrame(
        {"target": targets, "predicted": np.where(right, targets, "e")},
        index=[f"{i}.png" for i in range(100)],
    )
    chosen = choose({"mine": frame}, 8, seed=3)
    assert chosen == choose({"mine": frame.sample(frac=1, random_state=0)}, 8, seed=3)
    assert chosen != choose({"mine": frame}, 8, seed=4)
    found = frame.loc[chosen]
    is_right = (found["target"] == found["predicted"]).tolist()
    assert is_right == [True] * 4 + [False] * 4
    assert sorted(found["target"][:4]) == sorted(found["target"][4:]) == ["a", "b", "c", "d"]


def test_gallery_fills_up_where_nothing_is_wrong() -> None:
    frame = pd.DataFrame({"target": ["a"] * 9, "predicted": ["a"] * 9}, index=map(str, range(9)))
    assert len(set(choose({"mine": frame}, 8, seed=0))) == 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="ci_low"), "no column 'ci_low'"),
        (lambda table: table.iloc[:0], "has no rows"),
        (lambda table: table.assign(value="high"), "row 2: value is 'high'"),
    ],
)
def test_unusable_table_is_named(results: Path, change, message: str) -> None:
    path = results / "results.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(UserError, match=message):
        Results.read(results)


def test_command_line(results: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "report.html"
    wanted = ["report", results, "--out", out, "--title", "Ours", "--runs", tmp_path / "run"]
    with pytest.raises(SystemExit) as done:
        main([str(argument) for argument in wanted])
    assert done.value.code == 0
    assert str(out) in capsys.readouterr().out
    assert "Ours" in Page(out).text

    with pytest.raises(SystemExit) as done:
        main([*map(str, wanted), "--no-images"])
    assert done.value.code == 0
    assert "img" not in Page(out).tags

    for folder, more in ((tmp_path, []), (tmp_path / "no", []), (results, ["--runs", "no"])):
        with pytest.raises(SystemExit) as failed:
            main(["report", str(folder), "--out", str(out), *more])
        assert failed.value.code == 2
        said = capsys.readouterr().err
        assert "There is no" in said
        assert "Traceback" not in said
