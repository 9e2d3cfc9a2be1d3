"""Recipes, overrides, files and the command line's manners."""

import errno
from pathlib import Path

import pytest

from dermino.cli.main import main, spread
from dermino.config import load_config, recipe_names, save_config
from dermino.errors import UserError
from dermino.files import atomic_path, writable_folder
from dermino.pretrain.config import PretrainConfig
from dermino.progress import console


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_valid_and_survives_a_round_trip(name: str, tmp_path: Path) -> None:
    config = load_config(PretrainConfig, name)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(PretrainConfig, tmp_path / "config.yaml") == config


def test_the_default_recipe_holds_the_papers_values() -> None:
    config = load_config(PretrainConfig, "dermino-vitb14")
    assert config.head.num_prototypes == 65_536
    assert (config.epochs, config.epoch_length, config.batch_size_per_device) == (100, 400, 256)
    assert config.model_dump(exclude={"model": {"init"}, "epoch_length": True}) == (
        PretrainConfig().model_dump(exclude={"model": {"init"}, "epoch_length": True})
    )


def test_unknown_keys_and_bad_values_are_named() -> None:
    with pytest.raises(UserError, match=r"Did you mean 'optimizer\.base_lr'"):
        load_config(PretrainConfig, None, ["optimizer.baselr=1"])
    with pytest.raises(UserError, match=r"'head\.num_prototypes'.*-3"):
        load_config(PretrainConfig, None, ["head.num_prototypes=-3"])
    with pytest.raises(UserError, match="key=value"):
        load_config(PretrainConfig, None, ["seed"])


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("old")

    def fail(error: Exception) -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(RuntimeError, match="interrupted"):
        fail(RuntimeError("interrupted"))
    with pytest.raises(UserError, match=r"The disk is full: '.*results\.csv'"):
        fail(OSError(errno.ENOSPC, "No space left on device"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_outputs_that_cannot_be_written_are_refused_early(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Cannot write"):
        writable_folder(tmp_path / "file" / "below")


def test_options_take_several_values_side_by_side() -> None:
    assert spread(["pretrain", "--data", "a", "b", "--out", "c"]) == [
        "pretrain",
        *["--data", "a", "--data", "b"],
        *["--out", "c"],
    ]


def test_errors_are_messages_and_debug_shows_where(capsys: pytest.CaptureFixture) -> None:
    command = ["labels", "show", "[no] such taxonomy"]
    for arguments, traceback in ((command, False), ([*command, "--debug"], True)):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
        printed = capsys.readouterr().err
        assert "[no] such taxonomy" in printed
        assert ("Traceback" in printed) == traceback


def test_names_with_brackets_are_shown_as_they_are(capsys: pytest.CaptureFixture) -> None:
    console.print("Encoder: run [u]/encoder.safetensors")
    assert "run [u]/encoder" in capsys.readouterr().err


def test_unknown_commands_exit_with_two(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["pretrian"])
    assert stopped.value.code == 2
    assert "pretrain" in capsys.readouterr().err


def test_a_folder_of_a_recipes_name_does_not_hide_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path)
    assert load_config(PretrainConfig, "demo").epochs > 0
