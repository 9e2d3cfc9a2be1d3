"""Labels to concepts: normalisation, merging, the review table, the masks and the prototypes."""

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dermino.cli.main import main
from dermino.data.manifest import Manifest
from dermino.data.source_info import SourceInfo
from dermino.errors import UserError
from dermino.knowledge.build import build_taxonomy
from dermino.knowledge.calibration import calibrate_threshold
from dermino.knowledge.contrasts import contrast
from dermino.knowledge.merging import merge_names
from dermino.knowledge.normalisation import NormalisedLabel, normalise
from dermino.knowledge.prototypes import cosine_errors, initial_prototypes
from dermino.knowledge.review import review_table, write_review
from dermino.knowledge.taxonomy import Concept, Taxonomy
from dermino.knowledge.text_encoders import load_text_encoder


def manifest(dataset: str, labels: list[list[str]], vocabulary: tuple[str, ...] = ()) -> Manifest:
    frame = pd.DataFrame(
        {
            "image": [f"{dataset}/{row}.jpg" for row in range(len(labels))],
            "dataset": dataset,
            "labels": labels,
        }
    )
    return Manifest.from_frame(frame, ".", [SourceInfo(dataset, vocabulary=vocabulary)])


CODES = manifest("codes", [["mel"], ["nv"], [], ["bcc"]], ("mel", "nv", "bcc", "df"))
WORDS = manifest(
    "words",
    [["malignant melanoma", "malignant"], ["granuloma pyogenic"], ["pyogenic_granuloma"], ["UNK"]],
    ("benign", "Naevi", "Basal cell carcinoma (BCC)"),
)


def build(*manifests: Manifest, **options) -> Taxonomy:
    return build_taxonomy(manifests or (CODES, WORDS), "char-ngrams", **options)


def concept_of(taxonomy: Taxonomy, dataset: str, label: str) -> str | None:
    place = taxonomy.labels[dataset][label].concept
    return None if place is None else taxonomy.names[place]


@pytest.mark.parametrize(
    ("label", "name", "abbreviation"),
    [
        ("Basal cell carcinoma (BCC)", "basal cell carcinoma", "bcc"),
        ("nodular-melanoma-(nm)", "nodular melanoma", "nm"),
        ("superficial spreading melanoma ssm", "superficial spreading melanoma", "ssm"),
        ("BCC", "basal cell carcinoma", "bcc"),
        ("MEL unit", "mel unit", ""),
        ("Behçet’s disease", "behcet disease", ""),
        ("behcets_disease", "behcet disease", ""),
        ("Haemangiomas", "hemangioma", ""),
        ("stasis oedema", "stasis edema", ""),
        ("Naevus comedonicus", "nevus comedonicus", ""),
        ("Skin tumours", "skin tumor", ""),
        ("actinic keratoses", "actinic keratosis", ""),
        ("photodermatoses", "photodermatosis", ""),
        ("psoriasis", "psoriasis", ""),
        ("Café-au-lait macule", "cafe au lait macule", ""),
        ("dermatitis (atopic)", "dermatitis atopic", ""),
        ("Actinic_solar_Damage(Actinic_Cheilitis)", "actinic cheilitis", ""),
        ("N/A", "", ""),
        ("unknown", "", ""),
    ],
)
def test_normalisation(label, name, abbreviation):
    assert normalise(label) == NormalisedLabel(name, abbreviation)
    assert normalise(name).name == name


def test_contrasts_separate_what_embeddings_do_not():
    for first, second in [
        ("benign melanocytic tumor", "malignant melanocytic tumor"),
        ("acute urticaria", "chronic urticaria"),
        ("urticaria with angioedema", "urticaria without angioedema"),
        ("neoplastic", "non neoplastic"),
        ("squamous cell carcinoma", "squamous cell carcinoma in situ"),
        ("tinea of left foot", "tinea of right foot"),
        ("tinea pedis", "tinea manuum"),
        ("t cell lymphoma", "b cell lymphoma"),
        ("level 1", "level 2"),
        ("very severe acne", "severe acne"),
        ("actinic keratosis or intraepithelial carcinoma", "actinic keratosis"),
    ]:
        assert contrast(first, second), (first, second)
        names, same = [first, second], np.ones((2, 1))
        assert len(merge_names(names, same, threshold=0.5)) == 2
    assert contrast("pyogenic granuloma", "granuloma pyogenic") == ""


def test_merging_does_not_drift_along_a_chain_and_ignores_order():
    angles = np.deg2rad([0, 20, 40, 60])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    names = [f"disease {word}" for word in ("alpha", "beta", "gamma", "delta")]
    threshold = float(np.cos(np.deg2rad(25)))
    expected = [["disease alpha", "disease beta"], ["disease delta", "disease gamma"]]
    for order in itertools.permutations(range(4)):
        groups = merge_names([names[i] for i in order], vectors[list(order)], threshold)
        assert groups == expected


def test_merged_names_keep_their_cosine_and_aliases():
    taxonomy = build()
    assert concept_of(taxonomy, "codes", "mel") == concept_of(
        taxonomy, "words", "malignant melanoma"
    )
    assert concept_of(taxonomy, "words", "UNK") is None
    assert concept_of(taxonomy, "words", "benign") != concept_of(taxonomy, "words", "malignant")
    (merge,) = taxonomy.merges
    assert {merge.concept, merge.name} == {"pyogenic granuloma", "granuloma pyogenic"}
    assert merge.cosine == pytest.approx(1.0)
    assert Concept("basal cell carcinoma", ("bcc",)) in taxonomy.concepts


def test_same_bytes_whatever_the_order(tmp_path):
    for folder, manifests in {"a": (CODES, WORDS), "b": (WORDS, CODES)}.items():
        taxonomy = build(*manifests)
        taxonomy.write(tmp_path / folder)
        write_review(review_table(taxonomy), tmp_path / folder / "review.csv")
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name
    read = Taxonomy.read(tmp_path / "a")
    assert (read.concepts, read.labels, read.merges) == (
        taxonomy.concepts,
        taxonomy.labels,
        taxonomy.merges,
    )
    np.testing.assert_array_equal(read.embeddings, taxonomy.embeddings)


def test_a_taxonomy_edited_by_hand_is_refused(tmp_path):
    build().write(tmp_path)
    table = tmp_path / "taxonomy.json"
    table.write_text(table.read_text().replace('"dermatofibroma"', '"angioma"'))
    with pytest.raises(UserError, match="changed after it was built"):
        Taxonomy.read(tmp_path)


def test_ignore_mask_of_equation_6():
    taxonomy = build()
    j = {name: place for place, name in enumerate(taxonomy.names)}
    vocabulary = ["melanoma", "melanocytic nevus", "basal cell carcinoma", "dermatofibroma"]
    mask = np.zeros(len(taxonomy), dtype=np.uint8)
    mask[[j[name] for name in vocabulary]] = 1

    y, n = taxonomy.targets(["nv"], "codes")
    assert y.tolist() == [int(name == "melanocytic nevus") for name in taxonomy.names]
    assert n.tolist() == mask.tolist()

    y, n = taxonomy.targets([], "codes")
    assert not y.any()
    assert not n.any()

    # Eq. 6 for two crops, written out: only the four known diseases of the dataset count.
    encoded = taxonomy.encode(Manifest.join([CODES, WORDS]))
    y, n = (part.astype(float) for part in encoded.targets([0, 2]))
    p = np.linspace(0.1, 0.9, len(taxonomy))
    terms = n * (y * np.log(p) + (1 - y) * np.log(1 - p))
    by_hand = (
        sum(
            np.log(p[j[name]]) if name == "melanoma" else np.log(1 - p[j[name]])
            for name in vocabulary
        )
        / 4
    )
    assert terms[0].sum() / n[0].sum() == pytest.approx(by_hand)
    assert n[1].sum() == 0


def test_encoding_agrees_with_targets_row_by_row():
    taxonomy = build()
    joined = Manifest.join([WORDS, CODES])
    encoded = taxonomy.encode(joined)
    rows = np.array([5, 0, 3, 6, 7, 1])
    y, n = encoded.targets(rows)
    for place, row in enumerate(rows):
        dataset = joined.table["dataset"][row].as_py()
        expected_y, expected_n = taxonomy.targets(joined.labels[row], dataset)
        np.testing.assert_array_equal(y[place], expected_y)
        np.testing.assert_array_equal(n[place], expected_n)
    assert encoded.labelled.tolist() == [True, True, True, False, True, True, False, True]


def test_unlabelled_rows_of_a_dataset_outside_the_taxonomy_are_unlabelled():
    encoded = build(CODES).encode(manifest("wild", [[], []]))
    y, n = encoded.targets([0, 1])
    assert y.sum() == n.sum() == 0
    assert encoded.datasets.tolist() == [-1, -1]


def test_labels_outside_the_taxonomy_are_named_with_the_nearest():
    taxonomy = build(CODES)
    with pytest.raises(UserError, match=r"'melanom' of the dataset 'codes'[\s\S]*'melanoma'"):
        taxonomy.encode(manifest("codes", [["melanom"]]))
    with pytest.raises(UserError, match=r"dataset 'code'[\s\S]*Is it 'codes'"):
        taxonomy.encode(manifest("code", [["mel"]]))


def test_prototypes_keep_cosines_in_any_width():
    taxonomy = build()
    width = taxonomy.embeddings.shape[1]
    np.testing.assert_array_equal(initial_prototypes(taxonomy, width), taxonomy.embeddings)
    for embed_dim in (width + 512, 384, len(taxonomy)):
        prototypes = initial_prototypes(taxonomy, embed_dim)
        assert prototypes.shape == (len(taxonomy), embed_dim)
        assert prototypes.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(prototypes, axis=1), 1, atol=1e-6)
        assert cosine_errors(taxonomy.embeddings, prototypes)[0] < 1e-5
        np.testing.assert_array_equal(prototypes, initial_prototypes(taxonomy, embed_dim))
    assert not np.allclose(initial_prototypes(taxonomy, len(taxonomy), seed=1), prototypes)


def test_projection_below_the_rank_beats_a_random_one():
    generator = np.random.default_rng(0)
    latent = generator.standard_normal((60, 8)) @ generator.standard_normal((8, 64))
    vectors = latent + 0.3 * generator.standard_normal((60, 64))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    concepts = tuple(Concept(f"disease {number}") for number in range(60))
    taxonomy = Taxonomy(concepts, {}, vectors, "made", 0.9)
    _, best = cosine_errors(vectors, initial_prototypes(taxonomy, 16))
    _, random = cosine_errors(vectors, vectors @ generator.standard_normal((64, 16)))
    assert best < random / 5


def edit(path: Path, label: str, concept: str) -> None:
    table = pd.read_csv(path, dtype=str, na_filter=False, encoding="utf-8-sig")
    table.loc[table["label"] == label, "concept"] = concept
    table.to_csv(path, index=False, sep=";")


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_review_splits_merges_renames_and_excludes(tmp_path, suffix):
    path = tmp_path / f"review{suffix}"
    table = review_table(build()).set_index("label")
    table.loc["granuloma pyogenic", "concept"] = "Lobular  capillary hemangioma"
    table.loc["Naevi", "concept"] = "mole of any kind"
    table.loc["nv", "concept"] = "mole of any kind"
    table.loc["malignant", "concept"] = "exclude"
    write_review(table.reset_index(), path)

    reviewed = build(review=path)
    assert concept_of(reviewed, "words", "granuloma pyogenic") == "lobular capillary hemangioma"
    assert concept_of(reviewed, "words", "pyogenic_granuloma") == "granuloma pyogenic"
    assert concept_of(reviewed, "codes", "nv") == "mole of any kind"
    assert concept_of(reviewed, "words", "Naevi") == "mole of any kind"
    assert concept_of(reviewed, "words", "malignant") is None

    write_review(review_table(reviewed), path)
    again = build(review=path)
    assert again.labels == reviewed.labels

    later = manifest("later", [["melanocytic naevus"], ["pyogenic granulomas"]])
    grown = build(CODES, WORDS, later, review=path)
    assert concept_of(grown, "later", "melanocytic naevus") == "mole of any kind"
    assert concept_of(grown, "later", "pyogenic granulomas") == "granuloma pyogenic"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("dataset,label,concept\ncodes,mel,\n", "row 2: the concept of 'mel'"),
        ("dataset,label,concept\ncodes,mel,a\ncodes,mel,b\n", "row 3: 'mel'"),
        ("dataset,label,concept\ncodes,mle,a\n", r"row 2: .*'mle'[\s\S]*'mel'"),
        ("dataset,label,koncept\ncodes,mel,a\n", r"no column 'concept'[\s\S]*'koncept'"),
        ("dataset,label,concept\nelsewhere,mel,a\n", "none of these datasets"),
    ],
)
def test_review_errors_name_the_row(tmp_path, rows, message):
    path = tmp_path / "review.csv"
    path.write_text(rows)
    with pytest.raises(UserError, match=message):
        build(review=path)


def test_threshold_is_calibrated_or_the_encoder_is_refused():
    assert 0.8 < calibrate_threshold(load_text_encoder("char-ngrams")) < 0.95

    class Constant:
        name = "constant"

        def embed(self, texts):
            return np.ones((len(texts), 1), dtype=np.float32)

    with pytest.raises(UserError, match="does not tell synonyms"):
        calibrate_threshold(Constant())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A small BERT with random weights, saved as the hub's BERT checkpoints are."""
    transformers = pytest.importorskip("transformers")
    import torch

    folder = tmp_path_factory.mktemp("bert") / "tiny-bert"
    folder.mkdir()
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "melanoma", "nevus", "basal", "cell"]
    (folder / "vocab.txt").write_text("\n".join([*words, "##s", "carcinoma"]) + "\n")
    tokenizer = transformers.BertTokenizerFast(vocab=str(folder / "vocab.txt"))
    tokenizer.save_pretrained(folder)
    config = transformers.BertConfig(
        vocab_size=len(words) + 2,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("pooling", ["cls", "mean", "pooler"])
def test_poolings_of_a_transformer(checkpoint, pooling):
    import torch
    from transformers import AutoModel, AutoTokenizer

    texts = ["basal cell carcinoma", "nevus"]
    encoder = load_text_encoder(str(checkpoint), pooling)
    vectors = encoder.embed(texts)
    tokens = AutoTokenizer.from_pretrained(checkpoint)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        output = AutoModel.from_pretrained(checkpoint).eval()(**tokens)
    keep = tokens["attention_mask"].unsqueeze(-1)
    expected = {
        "cls": output[0][:, 0],
        "mean": (output[0] * keep).sum(1) / keep.sum(1),
        "pooler": output[1],
    }[pooling]
    expected = torch.nn.functional.normalize(expected, dim=1).numpy()
    np.testing.assert_allclose(vectors, expected, atol=2e-6)
    np.testing.assert_array_equal(encoder.embed(texts[1:])[0], vectors[1])
    assert encoder.name == f"tiny-bert, {pooling}"


def test_official_coder_attends_to_its_padding(checkpoint):
    import torch
    from transformers import AutoModel, AutoTokenizer

    from dermino.knowledge.text_encoders import TRANSFORMERS
    from dermino.knowledge.transformer_text import TransformerText

    spec = TRANSFORMERS["coder-official"]
    vector = TransformerText("coder-official", spec, str(checkpoint)).embed(["melanoma"])[0]
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    tokens = tokenizer("melanoma", padding="max_length", max_length=32, return_tensors="pt")
    with torch.no_grad():
        expected = AutoModel.from_pretrained(checkpoint).eval()(tokens["input_ids"])[1][0]
    np.testing.assert_allclose(vector, (expected / expected.norm()).numpy(), atol=2e-6)
    masked = replace(spec, pad_to=None)
    other = TransformerText("coder", masked, str(checkpoint)).embed(["melanoma"])[0]
    assert np.abs(vector - other).max() > 1e-4


def test_missing_weights_are_an_error(checkpoint, tmp_path):
    from safetensors.torch import load_file, save_file

    tensors = load_file(checkpoint / "model.safetensors")
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    kept = {key: value for key, value in tensors.items() if not key.startswith("pooler.")}
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    assert load_text_encoder(str(tmp_path), "cls").embed(["nevus"]).shape == (1, 32)
    with pytest.raises(UserError, match="no pooler"):
        load_text_encoder(str(tmp_path), "pooler")
    kept.pop("encoder.layer.1.output.dense.weight")
    save_file(kept, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="lack 1 tensors"):
        load_text_encoder(str(tmp_path), "cls")


def test_text_encoder_errors(checkpoint, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="Did you mean 'sapbert'"):
        load_text_encoder("sapbrt")
    with pytest.raises(UserError, match="--pooling cls, mean or pooler"):
        load_text_encoder(str(checkpoint))
    with pytest.raises(UserError, match="is fixed"):
        load_text_encoder("char-ngrams", "mean")
    with pytest.raises(UserError, match="not a transformers model"):
        load_text_encoder(str(tmp_path), "mean")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="cannot be fetched"):
        load_text_encoder("hf:nobody/nothing", "mean")
    with pytest.raises(UserError, match="cannot be fetched"):
        load_text_encoder("hf:not an id", "mean")


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def test_labels_on_the_command_line(tmp_path, capsys):
    CODES.write(tmp_path / "codes.parquet")
    WORDS.write(tmp_path / "words.parquet")
    manifests = tmp_path / "codes.parquet", tmp_path / "words.parquet"
    out = tmp_path / "taxonomy"
    command = ("labels", "build", *manifests, "--out", out, "--text-encoder", "char-ngrams")
    assert run(*command) == 0
    assert run("labels", "show", out, "--dataset", "codes") == 0
    assert "melanoma: mel (codes, 1)" in capsys.readouterr().out

    edit(out / "review.csv", "df", "fibrous histiocytoma")
    assert run(*command) == 2
    assert "--review" in capsys.readouterr().err
    assert run(*command, "--review", out / "review.csv") == 0
    assert "fibrous histiocytoma" in Taxonomy.read(out).names
    assert run(*command) == 2
    assert run("labels", "show", out, "--export", tmp_path / "table.xlsx") == 0
    assert len(pd.read_excel(tmp_path / "table.xlsx")) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("labels", "build", "absent.parquet", "--out", "t"), "no manifest"),
        (("labels", "build", "empty.parquet", "--out", "t"), "no diagnosis"),
        (("labels", "build", "codes.parquet", "--out", "t", "--threshold", "3"), "not a cosine"),
        (("labels", "build", "codes.parquet", "--out", "t", "--review", "r.csv"), "no review"),
        (("labels", "build", "codes.parquet", "--out", "codes.parquet"), "Cannot write"),
        (("labels", "show", "codes.parquet"), "not a taxonomy"),
    ],
)
def test_bad_input_is_explained(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    CODES.write("codes.parquet")
    manifest("empty", [[], ["unknown"]]).write("empty.parquet")
    assert run(*arguments) == 2
    assert message in " ".join(capsys.readouterr().err.split())
