"""MAE, MoCo v3, SwAV and PanDerm: their rules, and whole small runs."""

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file

from dermino.cli.main import main
from dermino.config import load_config
from dermino.data.manifest import Manifest
from dermino.data.source_info import SourceInfo
from dermino.errors import UserError
from dermino.knowledge.build import build_taxonomy
from dermino.models.encoder_file import EncoderFile
from dermino.models.load import create_backbone, load_encoder
from dermino.models.scratch import start_from_scratch
from dermino.pretrain import trainer
from dermino.pretrain.backbone import build_backbone
from dermino.pretrain.batch import Batch, Collate
from dermino.pretrain.config import PretrainConfig
from dermino.pretrain.dataset import PretrainDataset
from dermino.pretrain.heads.perceptron import SyncedBatchNorm
from dermino.pretrain.method import METHODS, Method
from dermino.pretrain.objectives.alignment import alignment_loss
from dermino.pretrain.objectives.reconstruction import patchify, reconstruction_loss
from dermino.pretrain.pretrain import pretrain
from dermino.pretrain.schedules import Length, Schedules, StepValues, scaled_lr
from dermino.pretrain.views.masking import FixedMasking, fixed_mask

TINY = [
    "model.architecture=vit_tiny_patch16_224",
    "views.global_size=64",
    "batch_size_per_device=8",
    "log_every=1",
    "workers=0",
    "epochs=2",
    "optimizer.warmup_epochs=0.5",
]
SMALL: dict[str, list[str]] = {
    "mae": ["mae={decoder_dim: 32, decoder_depth: 1, decoder_heads: 2}"],
    "mocov3": ["mocov3={hidden_dim: 32, projection_dim: 16}"],
    "swav": [
        "swav={num_prototypes: 24, hidden_dim: 32, projection_dim: 16, queue_length: 16, "
        "queue_start_epoch: 0}",
        "views.local_crops=2",
        "views.local_size=32",
    ],
    "panderm": ["panderm.regressor_depth=1", "panderm.teacher_size=64"],
}
MODEL_ARGS = {"depth": 2, "embed_dim": 32, "num_heads": 2}
UNLABELLED = dict.fromkeys(("targets", "known"), torch.zeros(8, 5, dtype=torch.uint8))
VALUES = StepValues(1e-3, 1e-3, 0.0, 0.9, 0.07, epoch=1.0)

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    random = np.random.default_rng(0)
    for i in range(16):
        pixels = random.integers(0, 256, (70, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    frame = pd.DataFrame({"image": [f"{i}.png" for i in range(16)], "dataset": "clinic"})
    Manifest.from_frame(frame, folder).write(folder / "clinic.parquet")
    return folder


@pytest.fixture(scope="module")
def teacher(data: Path) -> Path:
    """A vision tower in a file, as anyone's own CLIP might be."""
    path = data / "tower" / "encoder.safetensors"
    tower = create_backbone("vit_tiny_patch16_224", img_size=64, depth=1, embed_dim=48, num_heads=3)
    described = EncoderFile(
        "vit_tiny_patch16_224", {"img_size": 64, "depth": 1, "embed_dim": 48, "num_heads": 3}
    )
    described.write(path, tower.state_dict())
    return path


@pytest.fixture(scope="module")
def overrides(teacher: Path) -> dict[str, list[str]]:
    """What makes each method small."""
    shape = [f"model.model_args.{key}={value}" for key, value in MODEL_ARGS.items()]
    small = {name: [*TINY, *shape, *options] for name, options in SMALL.items()}
    small["panderm"].append(f"panderm.teacher={teacher}")
    return small


def build(name: str, overrides: dict[str, list[str]], *more: str) -> Method:
    config = load_config(PretrainConfig, f"{name}-vitb16", [*overrides[name], *more])
    backbone = build_backbone(config.model, config.views, config.seed)
    return METHODS.get(name)(config, backbone, None).train()


def batch_for(method: Method, data: Path, size: int = 8) -> Batch:
    manifest = Manifest.read(data / "clinic.parquet")
    views = method.views(method.config)
    dataset = PretrainDataset(manifest, views, 16, size, seed=0)
    return Collate(None)([dataset[i] for i in range(size)]).augmented()


def total(method: Method, batch: Batch, values: StepValues = VALUES) -> torch.Tensor:
    return torch.stack(list(method(batch, values).values())).sum()


def test_fixed_masks_have_exactly_their_share() -> None:
    random = np.random.default_rng(0)
    for masking, count in [(FixedMasking(0.75), 147), (FixedMasking(0.5, blocks=True), 98)]:
        masks = np.stack([fixed_mask((14, 14), masking, random) for _ in range(200)])
        assert (masks.sum(axis=1) == count).all()
        np.testing.assert_allclose(masks.mean(), count / 196)
    # Every patch is as likely as any other where single ones are drawn.
    single = np.stack([fixed_mask((14, 14), FixedMasking(0.75), random) for _ in range(2000)])
    np.testing.assert_allclose(single.mean(axis=0), 0.75, atol=0.05)


def test_from_scratch_positions_are_fixed_and_tell_patches_apart() -> None:
    vit = create_backbone("vit_tiny_patch16_224", img_size=64, **MODEL_ARGS)
    start_from_scratch(vit, separate_qkv=True)
    positions = vit.pos_embed[0]
    assert not vit.pos_embed.requires_grad
    assert not positions[0].any()
    distances = torch.cdist(positions[1:], positions[1:]) + torch.eye(16)
    assert distances.min() > 0.1
    bound = math.sqrt(6 / (32 + 32))
    assert 0.9 * bound < vit.blocks[0].attn.qkv.weight.abs().max() <= bound


def test_batch_norm_in_one_process_is_torchs_own() -> None:
    ours, theirs = SyncedBatchNorm(5), torch.nn.BatchNorm1d(5)
    features = torch.randn(7, 5)
    torch.testing.assert_close(ours(features), theirs(features))


@pytest.mark.parametrize(
    ("recipe", "batch_size", "peak"),
    [
        ("mae-vitb16", 4096, 2.4e-3),
        ("mocov3-vitb16", 4096, 2.4e-3),
        ("swav-vitb16", 1024, 2e-3),
        ("panderm-vitb16", 1920, 1.5e-3),
    ],
)
def test_recipes_reach_the_published_learning_rate(
    recipe: str, batch_size: int, peak: float
) -> None:
    config = load_config(PretrainConfig, recipe)
    assert scaled_lr(config, batch_size) == pytest.approx(peak)
    schedules = Schedules(config, Length.of(config, 100 * batch_size, batch_size), batch_size)
    assert schedules.at(250).epoch == 2.5
    assert METHODS.get(config.method).recipe == recipe


@pytest.mark.parametrize("name", SMALL)
def test_all_that_learns_is_in_one_group_and_gets_a_gradient(
    name: str, data: Path, overrides: dict[str, list[str]]
) -> None:
    method = build(name, overrides)
    grouped = [id(parameter) for parameter, _ in method.rules() if parameter.requires_grad]
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(p) for p in method.parameters() if p.requires_grad}
    total(method, batch_for(method, data)).backward()
    assert all((p.grad is not None) == p.requires_grad for p in method.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_each_method_trains_resumes_and_leaves_an_encoder_for_timm(
    name: str, data: Path, overrides: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [*overrides[name], "steps=3", "checkpoint_every=2"]

    def run(out: str, resume: bool = False) -> Path:
        manifest = [data / "clinic.parquet"]
        pretrain(manifest, data / out, overrides=options, resume=resume, method=name)
        return data / out

    whole = run(f"{name}-whole")
    real = trainer.Trainer.take_step

    def dies_in_step_three(self: trainer.Trainer, *batch: object) -> object:
        if self.step == 2:
            raise KeyboardInterrupt
        return real(self, *batch)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "take_step", dies_in_step_three)
        with pytest.raises(KeyboardInterrupt):
            run(f"{name}-killed")
    killed = run(f"{name}-killed", resume=True)
    first, second = (load_file(path / "encoder.safetensors") for path in (killed, whole))
    assert all(torch.equal(first[key], second[key]) for key in second)

    start = load_file(whole / "start.safetensors")
    assert not torch.equal(start["blocks.0.mlp.fc1.weight"], second["blocks.0.mlp.fc1.weight"])
    described = EncoderFile.read(whole / "encoder.safetensors")
    assert described is not None
    model = timm.create_model(
        described.architecture,
        num_classes=0,
        checkpoint_path=str(whole / "encoder.safetensors"),
        **described.model_args,
    ).eval()
    encoder = load_encoder(str(whole))
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model(encoder.preprocess.normalise(images))
    torch.testing.assert_close(encoder.embed(images), expected)

    plan = json.loads((whole / "plan.json").read_text())
    record = json.loads((whole / "metrics.jsonl").read_text().splitlines()[0])
    assert plan["first_losses"]
    for term, value in plan["first_losses"].items():
        assert record[term] == pytest.approx(value, rel=0.6)


@pytest.mark.parametrize("local_crops", [0, 3])
def test_cross_entropies_start_where_the_plan_says(data: Path, local_crops: int) -> None:
    options = [
        *TINY,
        *[f"model.model_args.{key}={value}" for key, value in MODEL_ARGS.items()],
        "head={num_prototypes: 1000, hidden_dim: 64, bottleneck_dim: 128}",
        f"views.local_crops={local_crops}",
        "loss={image: 0.5, patch: 2}",
        "masking.probability=0.75",
    ]
    config = load_config(PretrainConfig, "demo", options)
    torch.manual_seed(0)
    backbone = build_backbone(config.model, config.views, config.seed)
    method = METHODS.get("dermino")(config, backbone, torch.randn(5, 32)).train()
    with torch.no_grad():
        terms = method(replace(batch_for(method, data), **UNLABELLED), VALUES)
    expected = method.first_losses(8)
    assert expected.keys() == terms.keys() - {"koleo", "knowledge"}
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=0.05), name


def test_a_copy_of_a_method_shows_its_features_to_its_own_monitors(
    data: Path, overrides: dict[str, list[str]]
) -> None:
    method = build("mocov3", overrides)
    probe = copy.deepcopy(method)
    probe(batch_for(method, data), VALUES)
    assert method.watch.read() == {}
    assert "feature_spread" in probe.watch.read()


@pytest.mark.parametrize(
    ("name", "option", "message"),
    [
        ("mocov3", "batch_size_per_device=1", r"at least 2 images.*batch_size_per_device=2"),
        ("mae", "model.model_args={depth: 0}", r"without a block.*model\.model_args\.depth=1"),
    ],
)
def test_what_a_method_cannot_run_with_is_named(
    name: str, option: str, message: str, data: Path, overrides: dict[str, list[str]]
) -> None:
    manifest, options = [data / "clinic.parquet"], [*overrides[name], option]
    with pytest.raises(UserError, match=f"(?s){message}"):
        pretrain(manifest, data / f"refused-{name}", overrides=options, method=name)


def test_a_method_without_a_recipe_takes_its_own(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    command = ["pretrain", "--data", str(data / "clinic.parquet"), "--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--method", "maee"])
    assert stopped.value.code == 2
    assert "'mae'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--method", "mae"])
    assert stopped.value.code == 2
    # 512 images a device is what the recipe of MAE asks for, 256 that of dermino.
    assert "512" in capsys.readouterr().err


def test_methods_without_supervision_do_not_claim_to_have_seen_labels(
    data: Path, overrides: dict[str, list[str]]
) -> None:
    frame = Manifest.read(data / "clinic.parquet").frame
    labelled = frame.assign(labels=[["nevus"], ["melanoma"]] * 8)
    info = SourceInfo("clinic", vocabulary=("nevus", "melanoma"))
    Manifest.from_frame(labelled, data, [info]).write(data / "labelled.parquet")
    build_taxonomy([data / "labelled.parquet"], text_encoder="char-ngrams").write(data / "taxonomy")
    run = data / "labels-aside"
    options = [*overrides["mae"], "steps=1"]
    pretrain([data / "labelled.parquet"], run, data / "taxonomy", overrides=options, method="mae")
    plan = json.loads((run / "plan.json").read_text())
    assert (plan["concepts"], plan["labelled"]) == (0, 0)
    assert not pd.read_parquet(run / "seen.parquet")["labelled"].any()


def test_mae_shows_the_encoder_a_quarter_and_judges_only_the_rest(
    data: Path, overrides: dict[str, list[str]]
) -> None:
    method = build("mae", overrides)
    batch = batch_for(method, data)
    assert batch.masks.shape == (8, 16)
    assert (batch.masks.sum(dim=1) == 12).all()
    visible, masked = batch.split_patches()
    assert (visible.shape, masked.shape) == ((8, 4), (8, 12))
    assert batch.masks.gather(1, masked).all()
    assert not batch.masks.gather(1, visible).any()

    patches = patchify(batch.global_crops, 16)
    hidden = torch.take_along_dim(patches, masked.unsqueeze(-1), dim=1)
    with torch.no_grad():
        class_tokens, latents = method.backbone(batch.global_crops, visible)
        predicted = method.decoder(class_tokens, latents, visible, masked)
        expected = reconstruction_loss(predicted, hidden)
        torch.testing.assert_close(total(method, batch), expected)
        # What is hidden does not reach the encoder.
        blank = batch.global_crops.clone()
        holes = batch.masks.view(8, 1, 4, 4).repeat_interleave(16, 2).repeat_interleave(16, 3)
        blank[holes.expand_as(blank)] = 0
        torch.testing.assert_close(method.backbone(blank, visible)[1], latents)


def test_mae_seeing_all_patches_is_the_plain_backbone(
    data: Path, overrides: dict[str, list[str]]
) -> None:
    method = build("mae", overrides)
    crops = batch_for(method, data).global_crops
    everything = torch.arange(16).expand(8, -1)
    with torch.no_grad():
        class_tokens, patches = method.backbone(crops, everything)
        features = method.encoder.forward_features(crops)
    torch.testing.assert_close(class_tokens, features[:, 0])
    torch.testing.assert_close(patches, features[:, 1:])


@pytest.mark.parametrize("name", ["mae", "mocov3"])
def test_starting_weights_keep_and_train_their_positions(
    name: str, tmp_path: Path, overrides: dict[str, list[str]]
) -> None:
    start = create_backbone("vit_tiny_patch16_224", img_size=64, **MODEL_ARGS)
    EncoderFile("vit_tiny_patch16_224").write(tmp_path / "start.safetensors", start.state_dict())
    vit = build(name, overrides, f"model.init={tmp_path / 'start.safetensors'}").encoder
    assert torch.equal(vit.pos_embed, start.pos_embed)
    assert vit.pos_embed.requires_grad
    assert torch.equal(vit.patch_embed.proj.weight, start.patch_embed.proj.weight)
    assert vit.patch_embed.proj.weight.requires_grad == (name == "mae")


def test_mocov3_is_symmetric_and_its_keys_learn_nothing(
    data: Path, overrides: dict[str, list[str]]
) -> None:
    method = build("mocov3", overrides)
    batch = batch_for(method, data)
    loss = total(method, batch)
    first, second = batch.global_crops.chunk(2)
    batch.global_crops = torch.cat([second, first])
    torch.testing.assert_close(total(method, batch), loss)
    loss.backward()
    assert all(p.grad is None for p in method.key_encoder.parameters())
    assert all(p.grad is None for p in method.encoder.patch_embed.parameters())
    # The keys' projector is normalised by the batch at hand, as the queries' is.
    assert method.key_encoder.projector.training
    assert not method.key_encoder.backbone.training


def test_mocov3_moves_its_key_encoder_and_may_train_the_patch_projection(
    overrides: dict[str, list[str]],
) -> None:
    method = build("mocov3", overrides, "mocov3.freeze_patch_embed=false")
    assert method.encoder.patch_embed.proj.weight.requires_grad
    query = method.query_encoder.projector.linear0.weight
    key = method.key_encoder.projector.linear0.weight
    before = key.clone()
    with torch.no_grad():
        query += 1
    method.after_step(VALUES)
    torch.testing.assert_close(key, before + 0.1)


def test_swav_fills_its_queue_from_the_chosen_epoch_and_then_uses_it(
    data: Path, overrides: dict[str, list[str]]
) -> None:
    method = build("swav", overrides, "swav.queue_start_epoch=1", "model.drop_path=0")
    batch = batch_for(method, data)
    early = StepValues(1e-3, 1e-3, 0.0, 0.9, 0.07, epoch=0.9)
    with torch.no_grad():
        before = total(method, batch, early)
        assert not method.queue.any()
        total(method, batch)
        assert method.queue[:, :8].norm(dim=2).allclose(torch.ones(2, 8))
        assert not method.queue[:, 8:].any()
        newest = method.queue[:, :8].clone()
        torch.testing.assert_close(total(method, batch), before)
        assert torch.equal(method.queue[:, 8:], newest)
        # Full: the assignments now share the prototypes with the queue's images.
        method.queue.copy_(torch.nn.functional.normalize(torch.randn(2, 16, 16), dim=2))
        assert total(method, batch) != before


def test_swav_keeps_prototypes_on_the_sphere_and_still_at_first(
    data: Path, overrides: dict[str, list[str]]
) -> None:
    method = build("swav", overrides)
    weight = method.prototypes.weight
    with torch.no_grad():
        weight *= 3
    method.after_step(VALUES)
    torch.testing.assert_close(weight.norm(dim=1), torch.ones(24))
    rules = {id(parameter): rule for parameter, rule in method.rules()}
    assert rules[id(weight)].is_last_layer
    schedules = Schedules(method.config, Length(20, 10.0, 2.0), 8)
    assert schedules.at(9).last_layer_lr == 0.0
    assert schedules.at(10).last_layer_lr > 0.0


def test_panderm_aligns_every_token_with_the_teachers(
    data: Path, overrides: dict[str, list[str]]
) -> None:
    method = build("panderm", overrides, "model.drop_path=0")
    batch = batch_for(method, data)
    visible, masked = batch.split_patches()
    assert (visible.shape, masked.shape) == ((8, 8), (8, 8))
    with torch.no_grad():
        features = method.teacher(torch.rand(8, 3, 64, 64))
        seen, predicted = method.regressor(
            *method.backbone(batch.global_crops, visible), visible, masked
        )
        assert features.shape == (8, 17, 48)
        assert (seen.shape, predicted.shape) == ((8, 9, 48), (8, 8, 48))
        terms = method(batch, VALUES)
        whole = method.teacher.encoder.preprocess.denormalise(batch.global_crops)
        targets = method.teacher(whole)
        order = torch.cat([torch.zeros(8, 1, dtype=torch.int64), visible + 1, masked + 1], dim=1)
        expected = alignment_loss(
            torch.cat([seen, predicted], dim=1),
            torch.take_along_dim(targets, order.unsqueeze(-1), dim=1),
        )
    torch.testing.assert_close(terms["visible"] + terms["masked"], expected)


def test_panderm_learns_a_fixed_batch_and_leaves_its_teacher_alone(
    data: Path, overrides: dict[str, list[str]]
) -> None:
    method = build("panderm", overrides, "model.drop_path=0")
    batch = batch_for(method, data)
    before = {key: value.clone() for key, value in method.teacher.state_dict().items()}
    trained = [parameter for parameter in method.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, 3e-3)
    losses = []
    for _ in range(20):
        loss = total(method, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    after = method.teacher.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(key.startswith("teacher") for key in method.state_dict())


def test_panderm_keeps_clips_projection_and_names_a_grid_that_does_not_fit(
    overrides: dict[str, list[str]],
) -> None:
    clip = "panderm.teacher=random:vit_base_patch32_clip_quickgelu_224"
    with pytest.raises(UserError, match=r"panderm\.teacher_size=128"):
        build("panderm", overrides, clip)
    method = build("panderm", overrides, clip, "panderm.teacher_size=128")
    assert method.teacher.target_dim == 512
    mean = method.teacher.encoder.preprocess.mean
    assert mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-4)
    with torch.no_grad():
        assert method.teacher(torch.rand(1, 3, 64, 64)).shape == (1, 17, 512)
    bare = build(
        "panderm", overrides, clip, "panderm.teacher_size=128", "panderm.teacher_projection=false"
    )
    assert bare.teacher.target_dim == 768
