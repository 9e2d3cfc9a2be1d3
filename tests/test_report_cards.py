from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from dermino.report import report


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cards of two encoders on one task, one of which knows what it saw."""
    folder = tmp_path_factory.mktemp("cards")
    shared = {"task": "moles", "protocol": "linear", "n": 50, "run_id": "1", "note": ""}
    rows = [
        {"encoder": encoder, "subgroup": subgroup, "metric": metric, "value": 0.8125}
        | {"ci_low": 0.75, "ci_high": 0.875, "seen_in_pretraining": seen}
        | shared
        for encoder, seen in (("mine", "images"), ("hub", "unknown"))
        for subgroup in ("all", "skin_type=V-VI", "confidence=0.9-1")
        for metric in ("macro_auroc", "macro_f1", "accuracy")
    ]
    pd.DataFrame(rows).to_csv(folder / "results.csv", index=False)
    task = {"name": "moles", "title": "Moles | ours", "classes": ["a", "b"], "licence": "CC0"}
    evaluation = {
        "encoders": [
            {"name": "mine", "parameters": 21_500_000, "seen": {"ISIC": {"images": 1200}}},
            {"name": "hub", "seen": None},
        ],
        "tasks": [{**task, "dataset": "nci", "notes": ["one class was left out"]}],
        "protocols": [{"name": "linear", "title": "Linear probe"}],
    }
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    report(folder, folder / "report.html", model_cards=folder / "cards")
    return folder / "cards"


def test_a_card_tells_what_was_seen_and_measured(cards: Path) -> None:
    text = (cards / "mine" / "README.md").read_text(encoding="utf-8")
    for said in (
        "Not a medical device",
        "| Parameters | 21.5 M |",
        "| ISIC | 1,200 | 0 |",
        r"| Moles \| ours | Linear probe | Macro AUROC | 0.812 | 0.750–0.875 | 50 | yes, without",
        "| skin type V-VI | 0.812 |",
        "Moles | ours: one class was left out.",
        "Licence: CC0.",
    ):
        assert said in text
    assert "confidence" not in text
    assert "Unknown: nothing is recorded" in (cards / "hub" / "README.md").read_text()


def test_front_matter_is_what_the_hub_reads(cards: Path) -> None:
    text = (cards / "mine" / "README.md").read_text(encoding="utf-8")
    _, matter, body = text.split("---\n", 2)
    assert body.startswith("\n# mine\n")
    found = yaml.safe_load(matter)
    assert found["pipeline_tag"] == "image-feature-extraction"
    (entry,) = found["model-index"][0]["results"]
    assert entry["task"]["type"] == "image-classification"
    assert entry["dataset"] == {"name": "Moles | ours", "type": "nci"}
    assert [metric["type"] for metric in entry["metrics"]] == ["macro_auroc", "macro_f1"]
    assert entry["metrics"][0]["value"] == 0.8125


def test_all_cards_are_one_page(cards: Path) -> None:
    text = (cards / "index.html").read_text(encoding="utf-8")
    assert [f"<h2>{name}</h2>" in text for name in ("mine", "hub")] == [True, True]
    assert "For research use only." in text
    assert "http" not in text
