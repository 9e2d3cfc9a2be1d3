"""A results folder with every kind of task, as ``dermino evaluate`` and ``compare`` write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

ENCODERS = ["dermino", "panderm", "dinov2", "vit-base"]
SEEN = dict(zip(ENCODERS, ["images+labels", "images", "none", "unknown"], strict=True))
CLASSES = ["nevus", "melanoma", "keratosis"]
TASKS = {"ham": "HAM10000", "pad": "PAD-UFES-20", "ddi": "Diverse Dermatology Images"}
IMAGES = 40
SENTENCE = "A brown patch with an uneven border on the left forearm"


class ResultsMaker:
    """Writes four encoders on three classifications, one segmentation and one caption task."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.random = np.random.default_rng(0)
        self.rows: list[dict[str, Any]] = []
        self.images = [f"{number}.jpg" for number in range(IMAGES)]
        self.root = folder / "images"
        self.root.mkdir(parents=True)
        for name in self.images:
            pixels = self.random.integers(120, 255, (30, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(self.root / name)
            disc = np.hypot(*np.mgrid[-15:15, -20:20]) < 9
            mask = Image.fromarray(disc.astype(np.uint8) * 255)
            mask.save(self.root / f"mask-{Path(name).stem}.png")

    def write(self) -> Path:
        """Write everything and return the folder."""
        for encoder in range(len(ENCODERS)):
            for task in TASKS:
                self._classify(task, encoder)
            self._segment(encoder)
            self._caption(encoder)
        pd.DataFrame(self.rows).to_csv(self.folder / "results.csv", index=False, na_rep="nan")
        (self.folder / "evaluation.json").write_text(json.dumps(self._evaluation()))
        self._compare()
        return self.folder

    def row(self, encoder: int, task: str, protocol: str, metric: str, **given: Any) -> float:
        """Add a row; better encoders come first."""
        value = given.pop("value", 0.9 - 0.07 * encoder + self.random.normal(0, 0.01))
        name = ENCODERS[encoder]
        self.rows.append(
            {
                "encoder": name,
                "task": task,
                "protocol": protocol,
                "subgroup": "all",
                "metric": metric,
                "value": value,
                "ci_low": value - 0.03,
                "ci_high": value + 0.03,
                "n": IMAGES,
                "seen_in_pretraining": SEEN[name],
                "run_id": "1",
                "note": "",
                **given,
            }
        )
        return value

    def _keep(self, task: str, encoder: int, protocol: str, frame: pd.DataFrame) -> None:
        path = self.folder / "predictions" / task / f"{ENCODERS[encoder]}.{protocol}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(path)

    def _classify(self, task: str, encoder: int) -> None:
        metrics = ["macro_auroc", "macro_f1", "balanced_accuracy", "accuracy", "cohen_kappa"]
        for protocol in ("retrieval", "linear"):
            for metric in metrics:
                self.row(encoder, task, protocol, metric)
        truth = np.arange(IMAGES) % 3
        scores = self.random.dirichlet(np.ones(3), IMAGES)
        scores[np.arange(IMAGES), truth] += 0.9 - 0.2 * encoder
        scores /= scores.sum(axis=1, keepdims=True)
        names = np.array(CLASSES)
        frame = pd.DataFrame(
            {
                "image": self.images,
                "target": names[truth],
                "predicted": names[scores.argmax(axis=1)],
                **{f"score:{name}": scores[:, place] for place, name in enumerate(CLASSES)},
            }
        )
        self._keep(task, encoder, "linear", frame)
        for group, n, note in (("I-II", 28, ""), ("III-IV", 9, ""), ("V-VI", 3, "only 3 images")):
            given = {"subgroup": f"skin_type={group}", "n": n, "note": note}
            self.row(encoder, task, "linear", "macro_auroc", **given)
        self.row(encoder, task, "linear", "macro_auroc_gap", subgroup="skin_type", value=0.08)
        self.row(encoder, task, "linear", "accuracy", subgroup="confidence=0.9-1", value=0.95)
        for percent in (1, 10, 100):
            value = 0.5 + 0.2 * np.log10(percent) / 2 - 0.02 * encoder
            protocol = f"label-efficiency-{percent}"
            self.row(encoder, task, protocol, "mean_macro_auroc", value=value)
            self.row(encoder, task, protocol, "macro_auroc", value=value)

    def _segment(self, encoder: int) -> None:
        for protocol in ("segmentation-linear", "segmentation-upernet"):
            for metric in ("dice", "jaccard"):
                self.row(encoder, "masks", protocol, metric)
            self.row(encoder, "masks", protocol, "hd95", value=5.0 + encoder)
            folder = self.folder / "predictions" / "masks" / f"{ENCODERS[encoder]}.{protocol}"
            folder.mkdir(parents=True)
            for name in self.images:
                disc = np.hypot(*np.mgrid[-15:15, -20:20]) < 8 - encoder
                mask = Image.fromarray(disc.astype(np.uint8) * 255)
                mask.save(folder / f"{Path(name).stem}.png")
            frame = pd.DataFrame(
                {
                    "image": self.images,
                    "true_mask": [f"mask-{Path(name).stem}.png" for name in self.images],
                    "predicted_mask": [f"{Path(name).stem}.png" for name in self.images],
                    "value:dice": np.linspace(0.2, 0.95, IMAGES) - 0.05 * encoder,
                }
            )
            self._keep("masks", encoder, protocol, frame)

    def _caption(self, encoder: int) -> None:
        for metric, value in (("bleu_1", 0.4), ("meteor", 0.3), ("cider", 1.2)):
            self.row(encoder, "captions", "caption", metric, value=value - 0.05 * encoder)
        words = SENTENCE.split()
        written = [" ".join(words[: 4 + (row + encoder) % 7]) for row in range(IMAGES)]
        frame = pd.DataFrame(
            {"image": self.images, "reference": [SENTENCE] * IMAGES, "generated": written}
        )
        self._keep("captions", encoder, "caption", frame)

    def _evaluation(self) -> dict[str, Any]:
        whole = {"root": str(self.root), "n_train": 40, "n_test": IMAGES}
        counts = {"counts_train": dict.fromkeys(CLASSES, 13), "counts_test": {"nevus": 14}}
        tasks = [
            {"name": name, "kind": "classification", "title": title, "classes": CLASSES}
            | {"dataset": name, "licence": "CC0"}
            | whole
            | counts
            for name, title in TASKS.items()
        ]
        tasks += [
            {"name": "masks", "kind": "segmentation", "title": "Lesion masks", "classes": []}
            | {"definition": {"metrics": ["dice", "jaccard"]}}
            | whole,
            {"name": "captions", "kind": "caption", "title": "Captions", "classes": []} | whole,
        ]
        protocols: list[dict[str, Any]] = [
            {"name": "retrieval", "title": "Retrieval", "description": "Five neighbours vote."},
            {"name": "linear", "title": "Linear probe", "description": "One layer."},
            {"name": "segmentation-linear", "title": "Segmentation, linear head"},
            {"name": "segmentation-upernet", "title": "Segmentation, UperNet"},
            {"name": "caption", "title": "Captions"},
        ]
        protocols += [
            {
                "name": f"label-efficiency-{percent}",
                "title": "Label efficiency",
                "parameters": {"percent": [percent], "probe": "linear", "draws": 3},
            }
            for percent in (1, 10, 100)
        ]
        encoders = [
            {"name": name, "spec": f"hf:{name}", "parameters": 86_000_000, "embed_dim": 768}
            for name in ENCODERS
        ]
        bootstrap = {"replicates": 1000, "confidence": 0.95, "method": "percentile"}
        return {
            "created": "2026-01-31T12:00:00+00:00",
            "seed": 3,
            "bootstrap": bootstrap,
            "encoders": encoders,
            "tasks": tasks,
            "protocols": protocols,
        }

    def _compare(self) -> None:
        pairs = [(a, b) for a in range(4) for b in range(a + 1, 4)]
        comparisons = [
            {
                "task": task,
                "protocol": "linear",
                "metric": "macro_auroc",
                "encoder": ENCODERS[one],
                "other": ENCODERS[other],
                "difference": 0.07 * (other - one),
                "ci_low": 0.0,
                "ci_high": 0.2,
                "test": test,
                "p": 0.01,
                "p_holm": 0.0004 if other - one > 1 else 0.2,
                "family": 6,
                "n": IMAGES,
                "note": "",
            }
            for task in TASKS
            for one, other in pairs
            for test in ("bootstrap", "permutation")
        ]
        pd.DataFrame(comparisons).to_csv(self.folder / "comparisons.csv", index=False)
        ranks = [
            {
                "protocol": protocol,
                "metric": metric,
                "encoder": name,
                "mean_rank": 1.0 + place,
                "tasks": 3,
                "friedman_p": 0.029,
                "critical_difference": 2.71,
                "note": "",
            }
            for protocol in ("retrieval", "linear")
            for metric in ("macro_auroc", "macro_f1")
            for place, name in enumerate(ENCODERS)
        ]
        pd.DataFrame(ranks).to_csv(self.folder / "ranks.csv", index=False)
