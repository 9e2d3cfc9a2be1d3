"""Similar-image search: what is found, with what stated recall, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dermino.cli.main import main
from dermino.data.manifest import Manifest
from dermino.errors import UserError
from dermino.search import index as index_module
from dermino.search.archive import Archive, build_index, query_index
from dermino.search.index import VectorIndex

pytest.importorskip("faiss")
ENCODER = "tiny=random:resnet10t"
COLOURS = {"bruise": (80, 40, 160), "burn": (200, 60, 40), "freckle": (150, 100, 60)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index over four pictures of each of three colours."""
    folder = tmp_path_factory.mktemp("archive")
    random = np.random.default_rng(0)
    rows = []
    for label, colour in COLOURS.items():
        for number in range(4):
            pixels = np.clip(random.normal(colour, 25, (40, 40, 3)), 0, 255).astype(np.uint8)
            name = f"{label}_{number}.png"
            Image.fromarray(pixels).save(folder / name)
            labels = [label] if number else []
            rows.append({"image": name, "dataset": "skin", "labels": labels, "split": ""})
    Manifest.from_frame(pd.DataFrame(rows), folder).write(folder / "skin.parquet")
    build_index(
        ENCODER,
        [folder / "skin.parquet"],
        folder / "index",
        image_size=32,
        cache=folder / "cache",
        workers=0,
    )
    return folder


def clustered(n: int = 6000, dimension: int = 24) -> np.ndarray:
    random = np.random.default_rng(0)
    centres = random.normal(size=(60, dimension))
    vectors = centres[random.integers(0, 60, n)] + 0.4 * random.normal(size=(n, dimension))
    return vectors.astype(np.float32)


def test_small_archives_are_compared_in_full() -> None:
    vectors = clustered()
    index = VectorIndex.build(vectors)
    similarities, rows = index.search(7 * vectors[:50], 5)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine = unit[:50] @ unit.T
    np.testing.assert_array_equal(rows, np.argsort(-cosine, axis=1)[:, :5])
    np.testing.assert_allclose(similarities, -np.sort(-cosine, axis=1)[:, :5], atol=1e-5)
    assert index.search_settings.recall == 1


def test_large_archives_state_the_recall_they_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(index_module, "EXACT_AT_MOST", 1000)
    vectors = clustered()
    index = VectorIndex.build(vectors, target_recall=0.9)
    settings = index.search_settings
    assert settings.kind == "IVF128,SQ8"
    exact = VectorIndex.build(vectors, exact=True)
    queries = np.random.default_rng(1).permutation(len(vectors))[:500]
    answers = [own.search(vectors[queries], 11)[1][:, 1:] for own in (index, exact)]
    hits = [len(set(a) & set(b)) / 10 for a, b in zip(*answers, strict=True)]
    assert settings.recall >= 0.9
    assert np.mean(hits) == pytest.approx(settings.recall, abs=0.04)

    index.write(tmp_path / "index.faiss")
    again = VectorIndex.read(tmp_path / "index.faiss", settings)
    np.testing.assert_array_equal(again.search(vectors[:9], 4)[1], index.search(vectors[:9], 4)[1])


def test_a_picture_of_the_archive_finds_itself_first_and_its_like_next(folder: Path) -> None:
    found = query_index(
        folder / "index",
        [folder / "burn_2.png", folder / "freckle_0.png"],
        k=4,
        out=folder / "found.csv",
        html=folder / "found.html",
        cache=folder / "cache",
    )
    first = found[found["rank"] == 1]
    assert first["image"].tolist() == ["burn_2.png", "freckle_0.png"]
    assert first["similarity"].tolist() == pytest.approx([1, 1], abs=1e-4)
    assert found["image"].str.partition("_")[0].tolist() == ["burn"] * 4 + ["freckle"] * 4
    listed = pd.read_csv(folder / "found.csv")
    assert listed["rank"].tolist() == [1, 2, 3, 4] * 2
    page = (folder / "found.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg") == 10
    assert "no label" in page


def test_the_command_line_lists_neighbours(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["search", "query", str(folder / "index"), str(folder / "bruise_1.png")]
    with pytest.raises(SystemExit) as done:
        main([*arguments, "--k", "2", "--cache", str(folder / "cache")])
    assert done.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "bruise_1.png" in lines[1]


def test_wrong_indexes_and_encoders_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no search index"):
        Archive.open(tmp_path)
    picture = [folder / "burn_1.png"]
    with pytest.raises(UserError, match="at least 1"):
        query_index(folder / "index", picture, k=0)
    with pytest.raises(UserError, match="images are missing"):
        query_index(folder / "index", [tmp_path / "absent.png"])
    path = folder / "index" / "index.json"
    whole = path.read_text(encoding="utf-8")
    described = json.loads(whole)
    described["encoder"]["identity"] = "another"
    path.write_text(json.dumps(described), encoding="utf-8")
    try:
        with pytest.raises(UserError, match="weights or preprocessing differ"):
            query_index(folder / "index", picture, cache=folder / "cache")
        path.write_text(whole[:100], encoding="utf-8")
        with pytest.raises(UserError, match="damaged"):
            Archive.open(folder / "index")
    finally:
        path.write_text(whole, encoding="utf-8")
