"""Captions: metrics against their libraries, a tiny language model, resume, the command."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from dermino.cli.main import main
from dermino.data.generate.dataset import generate
from dermino.data.manifest import Manifest
from dermino.data.split import split
from dermino.errors import UserError
from dermino.evaluate.caption import training, writing
from dermino.evaluate.caption.captioner import Captioner, Lora
from dermino.evaluate.caption.java import JavaFailed, meteor_statistics, tokenise
from dermino.evaluate.caption.language_model import Location, load_language_model
from dermino.evaluate.caption.meteor import pooled_meteor
from dermino.evaluate.caption.scores import caption_scores
from dermino.evaluate.pooled import Aggregate, PooledScore, Score
from dermino.evaluate.protocol import Trial, configure_protocols
from dermino.evaluate.task import Task
from tiny_captions import needs_captions, remove_java, remove_wordnet, write_language_model

pytestmark = needs_captions
CPU = torch.device("cpu")
REFERENCES = [
    ["An irregular, brown patch on the hand.", "Brown patch with an irregular border."],
    ["Erythematous plaque with scale at the elbows of the patient."],
    ["The nevus is round."],
    ["Zebra stripes"],
    ["A nevus."],
    ["A little dark mole runs over the torso and the arms."],
]
GENERATED = [
    "A dark brown irregular patch on the back of the hand.",
    "Red scaly plaques on the elbow.",
    "The nevus is round.",
    "nothing alike",
    "",
    "Small dark moles running over the torso and the arm.",
]
needs_java = pytest.mark.skipif(shutil.which("java") is None, reason="needs Java")


def value(score: Score, weights: list[int] | None = None) -> float:
    if isinstance(score, Aggregate):
        return score.value
    chosen = np.ones(len(score)) if weights is None else np.array(weights, float)
    return float(score.replicates(chosen[:, None])[0])


@pytest.fixture
def no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    remove_java(monkeypatch)


@pytest.mark.usefixtures("no_java")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_authors_metrics_are_those_of_the_libraries() -> None:
    from nltk.translate.bleu_score import corpus_bleu
    from pycocoevalcap.cider.cider import Cider
    from rouge_score.rouge_scorer import RougeScorer

    scores = caption_scores(REFERENCES, GENERATED)
    weights = {"bleu_1": (1, 0, 0, 0), "bleu_2": (0.5, 0.5, 0, 0), "bleu_4": (0.25,) * 4}
    drawn = [2, 0, 1, 1, 0, 2]  # A replicate of the bootstrap is the corpus with rows repeated.
    for rows, counts in ((range(6), [1] * 6), (np.repeat(range(6), drawn), drawn), ([1], None)):
        pairs = [(REFERENCES[row], GENERATED[row]) for row in rows]
        words = [[text.split() for text in texts] for texts, _ in pairs]
        for name, shares in weights.items():
            expected = corpus_bleu(words, [text.split() for _, text in pairs], shares)
            one = [0, 1, 0, 0, 0, 0]
            assert value(scores[name], counts or one) == pytest.approx(expected, abs=1e-12)
    expected, each = Cider().compute_score(
        dict(enumerate(REFERENCES)), {row: [text] for row, text in enumerate(GENERATED)}
    )
    cider = scores["cider"]
    assert isinstance(cider, PooledScore)
    assert cider.per_image == pytest.approx(each)
    assert value(cider) == pytest.approx(expected)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for name, kind in (("rouge_1", "rouge1"), ("rouge_2", "rouge2"), ("rouge_l", "rougeL")):
        best = [
            max(scorer.score(text, own)[kind].fmeasure for text in texts)
            for texts, own in zip(REFERENCES, GENERATED, strict=True)
        ]
        assert value(scores[name]) == pytest.approx(np.mean(best))


@needs_java
def test_coco_metrics_are_those_of_pycocoevalcap() -> None:
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    scores = caption_scores(REFERENCES, GENERATED)
    flat = tokenise([text for texts in REFERENCES for text in texts])
    assert flat[0] == "an irregular brown patch on the hand"
    truth = {row: flat[row + 1 : row + 2] for row in range(1, 6)} | {0: flat[:2]}
    truth = {row: truth[row] for row in range(6)}
    own = {row: [text] for row, text in enumerate(tokenise(GENERATED))}
    bleu, _ = Bleu(4).compute_score(truth, own, verbose=0)
    for order in (1, 2, 4):
        assert value(scores[f"coco_bleu_{order}"]) == pytest.approx(bleu[order - 1], abs=1e-12)
    assert value(scores["coco_cider"]) == pytest.approx(Cider().compute_score(truth, own)[0])
    assert value(scores["coco_rouge_l"]) == pytest.approx(Rouge().compute_score(truth, own)[0])
    # What pycocoevalcap's Meteor gives for these captions; its program takes seconds to start.
    each = [0.3860675027, 0.0700248719, 1.0, 0.0, 0.0, 0.4840864578]
    meteor = scores["coco_meteor"]
    assert isinstance(meteor, PooledScore)
    assert value(meteor) == pytest.approx(0.3029661822, abs=1e-9)
    assert meteor.per_image == pytest.approx(np.array(each), abs=1e-9)


def test_meteor_counts_no_chunk_of_a_caption_that_is_its_reference() -> None:
    # What METEOR's program stated for two pairs of captions, and its value for both together.
    counts = np.zeros((2, 23))
    counts[0, [0, 1, 2, 3, 4, 5, 6, 7, 20, 21, 22]] = [11, 7, 5, 3, 4, 4, 2, 2, 4, 6, 6]
    counts[1, [0, 1, 2, 3, 4, 5, 6, 7, 20, 21, 22]] = [4, 4, 2, 2, 2, 2, 2, 2, 1, 4, 4]
    score = pooled_meteor("METEOR", counts)
    assert score.per_image == pytest.approx([0.38606750268848694, 1.0], abs=1e-12)
    assert value(score) == pytest.approx(0.4549709777807966, abs=1e-12)


@pytest.mark.usefixtures("no_java")
def test_what_cannot_be_computed_is_undefined_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remove_wordnet(monkeypatch)
    scores = caption_scores(REFERENCES[:1], GENERATED[:1])
    for name, remedy in (
        ("meteor", "python -m nltk.downloader wordnet punkt_tab"),
        ("cider", "there is one caption"),
        ("coco_bleu_4", "Java"),
        ("coco_meteor", "Java"),
    ):
        score = scores[name]
        assert isinstance(score, Aggregate)
        assert np.isnan(score.value)
        assert remedy in score.note
    with pytest.raises(JavaFailed):
        meteor_statistics([["a"]], ["a"])


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language_model")
    return write_language_model(folder, [text for texts in REFERENCES for text in texts])


@pytest.fixture
def captioner(language_model: Path) -> Captioner:
    model, tokeniser = load_language_model(Location.parse(str(language_model)), "auto", CPU)
    torch.manual_seed(0)
    adapted = Lora(8, 16, 0.05, ("q_proj", "v_proj")).adapt(model)
    return Captioner(adapted, tokeniser, 6, 8, "[INST] {image} {prompt} [/INST]", "Describe:")


def test_only_projector_and_adapters_learn_and_only_captions_are_judged(
    captioner: Captioner,
) -> None:
    names = captioner.trainable()
    assert len(names) == 2 + 2 * 2 * 2  # The projector; two matrices on q and v of two layers.
    assert all(name.startswith("projector") or "lora_" in name for name in names)
    texts = ["a brown patch", "scale"]
    tokens = [captioner.encode(text, 256) for text in texts]
    assert [int(ids[-1]) for ids in tokens] == [1, 1]
    assert len(captioner.encode(texts[0], 2)) == 2
    features = torch.randn(2, 6)
    captioner.eval()
    # Padding and the prompt do not count: the loss is the mean over each caption's own tokens.
    alone = [captioner.loss(features[row : row + 1], [tokens[row]]).item() for row in (0, 1)]
    together = captioner.loss(features, tokens).item()
    assert together == pytest.approx(np.average(alone, weights=[len(t) for t in tokens]), abs=1e-5)
    assert captioner.write(features, 5, 1) == captioner.write(features, 5, 1)


def test_captioner_learns_to_tell_images_apart(captioner: Captioner) -> None:
    features = torch.eye(6)[:2].repeat(2, 1)
    texts = ["The nevus is round.", "Zebra stripes"] * 2
    captions = [captioner.encode(text, 256) for text in texts]
    how = training.Optimisation(60, 2e-2, 2e-2, 0.0, 4, seed=0)
    training.train_captioner(captioner, lambda epoch: features, captions, how, None)
    assert captioner.write(features[:2], 32, 1) == texts[:2]
    assert captioner.write(features[:2], 32, 3) == texts[:2]


def test_unusable_language_models_are_explained(
    language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.torch import load_file, save_file

    def load(spec: object, precision: Any = "auto") -> None:
        load_language_model(Location.parse(str(spec)), precision, CPU)

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to the hub")

    monkeypatch.setattr("huggingface_hub.model_info", unreachable)
    with pytest.raises(UserError, match="no route to the hub") as error:
        load("BioMistral/BioMistral-7B")
    assert "#FILE.gguf" in error.value.remedy
    with pytest.raises(UserError, match=r"'config\.json' is missing"):
        load(tmp_path)
    with pytest.raises(UserError, match="CUDA"):
        load(language_model, "4bit")
    broken = tmp_path / "broken"
    shutil.copytree(language_model, broken)
    assert Location.parse(str(broken)).digest() == Location.parse(str(language_model)).digest()
    state = load_file(broken / "model.safetensors")
    del state["model.layers.1.self_attn.q_proj.weight"]
    save_file(state, broken / "model.safetensors", metadata={"format": "pt"})
    assert Location.parse(str(broken)).digest() != Location.parse(str(language_model)).digest()
    with pytest.raises(UserError, match=r"lacks 1 weights.*q_proj"):
        load(broken)
    model, _ = load_language_model(Location.parse(str(language_model)), "auto", CPU)
    with pytest.raises(UserError, match="no layers called c_attn") as error:
        Lora(8, 16, 0.05, ("c_attn",)).adapt(model)
    assert "q_proj" in error.value.remedy
    assert Location.parse("a/b.gguf") == Location("a", "b.gguf") == Location.parse("a#b.gguf")


@pytest.fixture
def trial(language_model: Path, tmp_path: Path) -> tuple[Any, Trial]:
    frame = pd.DataFrame(
        {
            "image": [f"{row}.png" for row in range(12)],
            "dataset": "spots",
            "split": ["train"] * 9 + ["test"] * 3,
            "labels": [[]] * 12,
            "caption": [REFERENCES[row % 6][0] for row in range(12)],
            "others": [[], ["A spot."], None] * 4,
        }
    )
    manifest = Manifest.from_frame(frame, tmp_path)
    targets = np.array(frame["caption"], object)
    task = Task("spots", manifest, "caption", (), targets, kind="caption")
    settings = ("max_length=12", "epochs=3", "writing_batch_size=2", "references=[others]")
    protocol = configure_protocols(
        ["caption"],
        [f"caption.{setting}" for setting in (f"language_model={language_model}", *settings)],
    )["caption"]
    features = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    return protocol, Trial(task, features, seed=3, work=tmp_path / "work")


@pytest.mark.usefixtures("no_java")
def test_a_killed_trial_goes_on_exactly(
    trial: tuple[Any, Trial], monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol, asked = trial
    monkeypatch.setattr(training, "_SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr(writing, "_SECONDS_BETWEEN_FILES", -1.0)
    whole = protocol.run(Trial(asked.task, asked.features, asked.seed))

    def kill_at(owner: Any, name: str, call: int) -> Any:
        original, calls = getattr(owner, name), iter(range(1, 1000))

        def counted(*args: Any, **options: Any) -> Any:
            if next(calls) == call:
                raise KeyboardInterrupt
            return original(*args, **options)

        return counted

    for name, call in (("loss", 5), ("write", 2)):
        with monkeypatch.context() as patched:
            patched.setattr(Captioner, name, kill_at(Captioner, name, call))
            with pytest.raises(KeyboardInterrupt):
                protocol.run(asked)
    assert asked.work is not None
    weights = torch.load(asked.work / "captioner.pt", weights_only=True)
    assert weights["steps"] == 9
    assert len(json.loads((asked.work / "captions.json").read_text())) == 2
    resumed = protocol.run(asked)
    assert resumed.columns == whole.columns
    other = protocol.run(
        Trial(asked.task, asked.features, asked.seed, work=asked.work.parent / "b")
    )
    again = torch.load(asked.work.parent / "b" / "captioner.pt", weights_only=True)
    assert other.columns == whole.columns
    for name, weight in again["weights"].items():
        assert torch.equal(weight, weights["weights"][name])
    assert resumed.columns["references"][1] == [REFERENCES[4][0], "A spot."]
    with pytest.raises(UserError, match="others"):
        protocol.model_copy(update={"references": ("other",)}).check(asked.task)


@pytest.mark.usefixtures("no_java")
def test_the_command_writes_captions_and_metrics(language_model: Path, tmp_path: Path) -> None:
    data, out = tmp_path / "skin", tmp_path / "results"
    generate(data, 16, seed=1)
    manifest = tmp_path / "divided.parquet"
    split(Manifest.read(next(data.glob("*.parquet")))).write(manifest)
    with pytest.raises(SystemExit) as ended:
        main(
            [
                *("evaluate", "--data", str(manifest), "--target", "caption", "--out", str(out)),
                *("--encoder", "vit=random:test_vit", "--cache", str(tmp_path / "cache")),
                *("--set", f"caption.language_model={language_model}", "--set", "caption.epochs=1"),
                *("--set", "caption.max_length=8", "--workers", "0"),
            ]
        )
    assert ended.value.code == 0
    table = pd.read_csv(out / "results.csv").set_index("metric")
    assert set(table.index) >= {"bleu_1", "bleu_4", "meteor", "cider", "rouge_l", "coco_meteor"}
    assert table.loc[["bleu_1", "cider", "rouge_1"], "value"].notna().all()
    undefined = table[table["value"].isna()]
    assert undefined["note"].str.contains("needs").all()
    (path,) = out.glob("predictions/*/vit.caption.parquet")
    columns = pq.read_table(path).to_pandas()
    assert {"reference", "generated", "value:rouge_l"} <= set(columns)
    assert columns["reference"].str.len().min() > 10
