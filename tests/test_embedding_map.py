"""Maps of embeddings: what is drawn, coloured and said."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dermino.data.manifest import Manifest
from dermino.data.source_info import SourceInfo
from dermino.evaluate.feature_cache import FeatureCache
from dermino.knowledge.build import build_taxonomy
from dermino.knowledge.groups import coarse_groups
from dermino.report import embedding_map
from dermino.report.embedding_map import draw_map, image_maps, label_maps, project
from dermino.report.evaluation import EncoderRecord, Evaluation, ProtocolRecord, TaskRecord
from dermino.report.results import Results
from dermino.report.runs import Run


@pytest.fixture(autouse=True)
def only_tsne(monkeypatch):
    """UMAP compiles itself for twenty seconds."""
    monkeypatch.setattr(embedding_map, "projections", lambda: ("t-SNE",))


def two_clouds(points: int = 12) -> np.ndarray:
    random = np.random.default_rng(0)
    centres = np.repeat(np.eye(2, 8), points // 2, axis=0)
    return centres + 0.05 * random.standard_normal((points, 8))


def test_what_is_close_stays_close():
    layout = project(two_clouds(), "t-SNE")
    assert layout.shape == (12, 2)
    distances = np.linalg.norm(layout[:, None] - layout[None], axis=2)
    assert distances[:6, :6].max() < distances[:6, 6:].min()


def test_every_point_is_named_and_coloured_once():
    groups = [f"group {number // 2}" for number in range(28)] + ["", ""]
    names = [f"<{number}>" for number in range(30)]
    drawn = draw_map(two_clouds(30), names, groups, "title", "note", named=True)
    figure = drawn.figures["t-SNE"]
    assert figure.count("<circle") == figure.count("<text") == 30
    assert all(f"<title>&lt;{number}&gt;</title>" in figure for number in range(30))
    assert sum(points for _, _, points in drawn.legend) == 30
    colours = [colour for _, colour, _ in drawn.legend]
    assert len(set(colours)) == len(colours) == 12 + 2
    assert [group for group, _, _ in drawn.legend][-2:] == ["other groups", "no group"]


def test_labels_are_coloured_by_what_a_dataset_calls_broader(tmp_path):
    labels = ["melanoma", "basal cell carcinoma", "lipoma", "malignant", "psoriasis"]
    info = SourceInfo(
        "d",
        vocabulary=tuple(labels),
        parents=(("melanoma", "malignant"), ("basal cell carcinoma", "malignant")),
    )
    frame = pd.DataFrame({"image": ["a.jpg"], "dataset": "d", "labels": [["lipoma"]]})
    taxonomy = build_taxonomy([Manifest.from_frame(frame, ".", [info])], "char-ngrams")
    groups = dict(zip(taxonomy.names, coarse_groups(taxonomy), strict=True))
    assert {name for name, group in groups.items() if group == "malignant"} == {
        "melanoma",
        "basal cell carcinoma",
        "malignant",
    }
    assert groups["lipoma"] == groups["psoriasis"] == ""
    taxonomy.write(tmp_path / "run" / "taxonomy")
    (drawn,) = label_maps([Run.read(tmp_path / "run")])
    assert "5 concepts" in drawn.title
    assert ("malignant", 3) in [(group, points) for group, _, points in drawn.legend]


def test_images_come_from_the_feature_cache_and_names_can_be_left_out(tmp_path):
    images = [f"{number}.jpg" for number in range(12)]
    for image in images:
        (tmp_path / image).write_bytes(image.encode())
    cache = FeatureCache(tmp_path / "cache")
    digests = cache.digests([tmp_path / image for image in images])
    with cache.writer("known") as writer:
        writer.add(digests, two_clouds().astype(np.float32))
    results = results_of(tmp_path, images)
    (drawn,) = image_maps(results, tmp_path / "cache")
    assert "known" in drawn.title
    assert [(group, points) for group, _, points in drawn.legend] == [("a", 6), ("b", 6)]
    assert "3.jpg" in drawn.figures["t-SNE"]
    (anonymous,) = image_maps(results, tmp_path / "cache", file_names=False)
    assert ".jpg" not in anonymous.figures["t-SNE"]


def results_of(root: Path, images: list[str]) -> Results:
    """Two encoders asked by one protocol; the cache knows only one of them."""
    names = ("known", "absent")
    frame = pd.DataFrame({"image": images, "target": ["a"] * 6 + ["b"] * 6})
    for name in names:
        path = root / "predictions" / "task" / f"{name}.retrieval.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(path)
    table = pd.DataFrame([{"encoder": n, "task": "task", "protocol": "retrieval"} for n in names])
    evaluation = Evaluation(
        encoders=tuple(EncoderRecord(name=name, identity=name) for name in names),
        tasks=(TaskRecord(name="task", root=str(root)),),
        protocols=(ProtocolRecord(name="retrieval"),),
    )
    return Results(root, table, evaluation)
