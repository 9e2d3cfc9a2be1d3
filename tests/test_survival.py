"""What a run survives: signals, kills, batches that are no numbers, bad images, full disks."""

import errno
import json
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import IO
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file

from dermino.cli.main import main
from dermino.errors import DiskFull, UserError
from dermino.pretrain.batch import Batch
from dermino.pretrain.interruption import Interrupted
from dermino.pretrain.methods.dermino import DerminoMethod
from dermino.pretrain.pretrain import pretrain
from dermino.pretrain.replay import replay
from dermino.pretrain.trainer import Trainer
from tiny_run import TINY, write_archive

# Sums depend on the number of threads in their last bit, so every process has this one's.
THREADS = str(torch.get_num_threads())
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": THREADS, "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive"))


def train(data: Path, run: Path, *overrides: str, resume: bool = False) -> Path:
    return pretrain([data], run, None, "demo", [*TINY, *overrides], resume=resume)


def records(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_encoder(run: Path, other: Path) -> None:
    ours, theirs = (load_file(path / "encoder.safetensors") for path in (run, other))
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def before_step(monkeypatch: pytest.MonkeyPatch, act: Callable[[Trainer, Batch], None]) -> None:
    """Call ``act`` before each step, which is one batch here."""
    real = Trainer.take_step

    def take_step(self: Trainer, batches: Iterable[Batch], *arguments: object) -> object:
        (batch,) = batches
        act(self, batch)
        return real(self, [batch], *arguments)

    monkeypatch.setattr(Trainer, "take_step", take_step)


def tell_all(number: int) -> None:
    """Send a signal to this process and its loader's, from another one, as schedulers do."""
    processes = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    subprocess.run(["kill", f"-{int(number)}", *map(str, processes)], check=True)


@pytest.fixture(scope="module")
def whole(data: Path) -> Path:
    """An uninterrupted run of 6 steps."""
    run = data.parent / "whole"
    train(data, run, "steps=6")
    return run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_signal_ends_the_step_writes_a_checkpoint_and_exits_with_its_code(
    data: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
    code: int,
    workers: int,
) -> None:
    overrides = ["steps=6", f"workers={workers}"]
    handler = signal.getsignal(number)
    with monkeypatch.context() as patch:
        before_step(patch, lambda trainer, _: tell_all(number) if trainer.step == 2 else None)
        with pytest.raises(Interrupted) as stopped:
            train(data, tmp_path, *overrides)
    assert stopped.value.code == code
    assert signal.getsignal(number) is handler
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_00000003.pt"]
    train(data, tmp_path, *overrides, resume=True)
    assert_same_encoder(tmp_path, whole)
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 3, 4, 5, 6]


IN_ONE_OF_TWO = """
import errno, os, signal
from pathlib import Path
from dermino.cli.main import main
from dermino.pretrain.trainer import Trainer
real = Trainer._on_device
def on_device(self, batches):
    if self.step == 2 and self.fabric.global_rank == {rank}:
        {happens}
    return real(self, batches)
Trainer._on_device = on_device
try:
    main()
except SystemExit as stop:
    # One write, so that the two processes' lines do not mix.
    os.write(1, f'ended with {{stop.code}}\\n'.encode())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="gloo under torchrun is not tested there")
@pytest.mark.parametrize(
    ("rank", "happens", "codes", "said"),
    [
        (
            1,
            "os.kill(os.getpid(), signal.SIGTERM)",
            {"143"},
            "Stopped by SIGTERM after step 3 of 6",
        ),
        (
            1,
            "batches[0].failure = 'It is no picture.'",
            {"2"},
            "20 images in a row cannot be read. It is no picture. The newest checkpoint is step_0",
        ),
        (
            0,
            "os.symlink('/dev/full', self.run / 'full'); (self.run / 'full').replace("
            "self.run / 'metrics.jsonl')",
            {"1", "2"},
            "The disk is full: '{run}/metrics.jsonl' cannot be written. None is saved yet",
        ),
    ],
    ids=["signal", "images", "disk"],
)
def test_what_stops_one_of_two_processes_stops_both_after_the_same_step(
    data: Path, tmp_path: Path, rank: int, happens: str, codes: set[str], said: str
) -> None:
    script, run = tmp_path / "stopped.py", tmp_path / "run"
    script.write_text(IN_ONE_OF_TWO.format(rank=rank, happens=happens))
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    arguments = ["pretrain", "--data", str(data), "--out", str(run)]
    settings = ["--recipe", "demo", "--set", *TINY, "steps=6"]
    done = subprocess.run(
        [sys.executable, *torchrun, str(script), *arguments, *settings],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    ended = [line.removeprefix("ended with ") for line in done.stdout.splitlines()]
    assert (len(ended), set(ended)) == (2, codes), done.stderr
    assert done.stderr.count(said.format(run=run)) == 1


SLOW_CHECKPOINTS = """
import io, time, torch
from dermino.cli.main import main
real = torch.save
def save_slowly(state, path):
    content = io.BytesIO()
    real(state, content)
    with open(path, "wb") as file:
        file.write(content.getvalue()[:5000])
        file.flush()
        time.sleep(0.3)
        file.write(content.getvalue()[5000:])
torch.save = save_slowly
main()
"""


def kill_when(process: subprocess.Popen[bytes], happens: Callable[[], bool]) -> None:
    while not happens():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.002)
    process.kill()
    process.wait()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_kills_at_any_moment_change_no_bit_of_the_weights(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    saved = tmp_path / "checkpoints"
    command = ["pretrain", "--data", str(data), "--out", str(tmp_path), "--recipe", "demo"]

    def start(workers: int) -> subprocess.Popen[bytes]:
        settings = ["--set", *TINY, "steps=6", "checkpoint_every=1", f"workers={workers}"]
        program = [sys.executable, "-c", SLOW_CHECKPOINTS, *command, "--resume", *settings]
        return subprocess.Popen(program, env=ENVIRONMENT, stderr=subprocess.DEVNULL)

    kill_when(start(0), lambda: any(saved.glob(".step_00000001*.tmp")))
    kill_when(start(2), lambda: any(saved.glob("step_00000002.pt")))
    kill_when(start(2), lambda: any(saved.glob(".step_00000004*.tmp")))
    assert start(0).wait() == 0
    assert_same_encoder(tmp_path, whole)
    assert {path.name for path in saved.iterdir()} == {"step_00000005.pt", "step_00000006.pt"}
    assert [record["step"] for record in records(tmp_path)] == [1, 2, 3, 4, 5, 6]


def told_to_stop_after(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    def tell(trainer: Trainer, batch: Batch) -> None:
        if trainer.step == step - 1:
            trainer.interruption.number = signal.SIGTERM

    before_step(monkeypatch, tell)


@pytest.mark.parametrize(("keep", "kept"), [(1, [5, 6]), (2, [4, 5, 6])])
def test_a_damaged_checkpoint_never_displaces_a_sound_one(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: int, kept: list[int]
) -> None:
    def saved() -> list[int]:
        return sorted(int(path.stem[5:]) for path in (tmp_path / "checkpoints").iterdir())

    train(data, tmp_path, "steps=8", "checkpoint_every=4")
    assert saved() == [4, 8]
    (tmp_path / "checkpoints" / "step_00000008.pt").write_bytes(bytes(1000))
    for step in (5, 6):
        with monkeypatch.context() as patch:
            told_to_stop_after(patch, step)
            with pytest.raises(Interrupted):
                train(data, tmp_path, "steps=8", f"keep_checkpoints={keep}", resume=True)
        assert saved() == [s for s in kept if s <= step][-keep:]


def poison(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Make the loss of some steps, counted from 0, infinite."""
    real = DerminoMethod.forward
    taken = iter(range(1000))

    def forward(self: DerminoMethod, *arguments: object) -> dict[str, torch.Tensor]:
        terms = real(self, *arguments)
        if next(taken) in steps:
            terms["patch"] = terms["patch"] * torch.inf
        return terms

    monkeypatch.setattr(DerminoMethod, "forward", forward)


def test_a_step_without_a_loss_teaches_nothing_and_can_be_seen_again(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    overrides = ["steps=4", "loss.centering=softmax", "checkpoint_every=1", "keep_checkpoints=9"]
    poison(monkeypatch, {2})
    shown = []
    before_step(monkeypatch, lambda trainer, batch: shown.append(batch))
    train(data, tmp_path, *overrides)
    states = [torch.load(tmp_path / "checkpoints" / f"step_0000000{step}.pt") for step in (2, 3, 4)]
    before, skipped, after = (state["method"] for state in states)
    assert all(torch.equal(before[key], skipped[key]) for key in before)
    assert not torch.equal(after["image_centering.center"], skipped["image_centering.center"])
    assert states[0]["optimizer"]["state"][0]["step"] == states[1]["optimizer"]["state"][0]["step"]
    counted = [(1, 0), (2, 0), (3, 1), (4, 1)]
    assert [(r["step"], r["skipped"]) for r in records(tmp_path)] == counted
    assert "total" not in records(tmp_path)[2]
    assert "patch" not in records(tmp_path)[2]
    assert capsys.readouterr().err.count("Step 3 is skipped: the loss (patch) is no number") == 1
    (noted,) = (json.loads(line) for line in (tmp_path / "nonfinite.jsonl").open())
    assert (noted["step"], noted["terms"], noted["seed"]) == (3, ["patch"], 0)
    assert noted["images"] == [str(data.parent / f"{row}.jpg") for row in noted["rows"]]
    again = replay(tmp_path, noted["step"])
    assert all(
        torch.equal(getattr(again, field.name), getattr(shown[2], field.name))
        for field in fields(Batch)
        if field.type == "torch.Tensor"
    )


def test_a_last_step_without_a_loss_still_closes_the_records(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    poison(monkeypatch, {3})
    train(data, tmp_path, "steps=4", "log_every=2")
    assert [record["step"] for record in records(tmp_path)] == [2, 4]
    said = capsys.readouterr().err
    assert "step 4/4" in said
    assert "total inf" in said
    summary = (tmp_path / "summary.md").read_text()
    assert re.search(r"\| patch \| [\d.]+ \| not a number \|", summary)
    assert "was not a number: 1 (`nonfinite.jsonl`)" in summary


def test_three_steps_in_a_row_without_a_loss_stop_the_run_and_lose_nothing(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        poison(patch, {1, 3, 4, 5})
        expected = r"loss \(patch\) has not been a number since step 4; 3 steps .* step_00000006.pt"
        with pytest.raises(UserError, match=expected):
            train(data, tmp_path, "steps=8")
    assert not (tmp_path / "encoder.safetensors").exists()
    train(data, tmp_path, "steps=8", resume=True)
    assert [record["step"] for record in records(tmp_path)] == [*range(1, 9)]


def test_weights_that_are_no_numbers_are_not_saved(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ruin(trainer: Trainer, batch: Batch) -> None:
        if trainer.step == 3:
            next(trainer.method.parameters()).data.fill_(torch.nan)

    before_step(monkeypatch, ruin)
    with pytest.raises(UserError, match=r"since step 4; .* step_00000002\.pt\."):
        train(data, tmp_path, "steps=8", "checkpoint_every=2", "keep_checkpoints=1")


def test_more_than_one_in_a_hundred_unreadable_images_stop_the_run_and_lose_nothing(
    tmp_path: Path,
) -> None:
    data = write_archive(tmp_path, 40)
    pictures = [tmp_path / f"{place}.jpg" for place in range(3)]
    sound = [picture.read_bytes() for picture in pictures]
    for picture in pictures[:2]:
        picture.write_bytes(b"\xff\xd8 not a photograph")
    overrides = ["steps=10", "checkpoint_every=4"]
    train(data, tmp_path / "two", *overrides)
    listed = (tmp_path / "two" / "unreadable.csv").read_text()
    assert listed.splitlines()[0] == "step,row,path"
    assert "replaced by others: 2 (`unreadable.csv`)" in (tmp_path / "two/summary.md").read_text()
    (tmp_path / "two" / "checkpoints" / "step_00000010.pt").unlink()
    train(data, tmp_path / "two", *overrides, resume=True)
    assert (tmp_path / "two" / "unreadable.csv").read_text() == listed

    pictures[2].write_bytes(b"\xff\xd8 not a photograph")
    run = tmp_path / "three"
    refused = r"3 of the \d+ images .*unreadable\.csv'. The newest checkpoint is step_0"
    with pytest.raises(UserError, match=refused):
        train(data, run, "steps=10")
    stopped = records(run)[-1]["step"]
    assert (run / "checkpoints" / f"step_{stopped:08d}.pt").is_file()
    for picture, content in zip(pictures, sound, strict=True):
        picture.write_bytes(content)
    # As lists of earlier versions are.
    listed = (run / "unreadable.csv").read_text().removeprefix("step,row,path\n")
    (run / "unreadable.csv").write_text(listed)
    train(data, run, "steps=10", resume=True)
    assert (run / "unreadable.csv").read_text() == f"step,row,path\n{listed}"


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("plan.json", b"{}", "plan.json"),
        ("metrics.jsonl", b'{"total": 1}\n', "Line 1 of '.*metrics.jsonl'"),
        ("metrics.jsonl", b"\xff\xfe\x00\n", "Line 1 of '.*metrics.jsonl'"),
        ("nonfinite.jsonl", b'{"step": 1}\n[1]\n', "Line 2 of '.*nonfinite.jsonl'"),
        ("unreadable.csv", b"step,row,path\none,5,x.jpg\n", "Line 2 of '.*unreadable.csv'"),
    ],
)
def test_a_file_that_was_tampered_with_is_named(
    data: Path, whole: Path, tmp_path: Path, name: str, content: bytes, named: str
) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    (run / name).write_bytes(content)
    with pytest.raises(UserError, match=named):
        train(data, run, "steps=6", resume=True)


def test_a_checkpoint_of_another_method_is_named_with_what_it_lacks(
    data: Path, whole: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(whole, tmp_path / "run")
    foreign = {"step": 6, "method": {"decoder": torch.zeros(1)}, "optimizer": {}}
    torch.save(foreign, run / "checkpoints" / "step_00000006.pt")
    with pytest.raises(UserError, match=r"step 6 .*Missing key.*student\.backbone.*\n.*remove it"):
        train(data, run, "steps=6", resume=True)


@pytest.mark.parametrize("fails", ["torch.save", "os.fsync"])
def test_a_full_disk_leaves_the_last_checkpoint_and_nothing_else(
    data: Path,
    whole: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fails: str,
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    still_open: list[IO[bytes]] = []

    def save_half(state: object, path: Path) -> None:
        still_open.append(open(path, "wb"))  # noqa: SIM115 - as torch leaves it.
        still_open[0].write(bytes(1000))
        still_open[0].flush()
        raise full

    def fill_the_disk(trainer: Trainer, batch: Batch) -> None:
        if trainer.step == 4 and fails == "torch.save":
            patch.setattr(torch, "save", save_half)
        elif trainer.step == 4:
            patch.setattr(os, "fsync", Mock(side_effect=full))

    settings = ["--set", *TINY, "steps=6", "checkpoint_every=2"]
    arguments = ["--data", str(data), "--out", str(tmp_path), "--recipe", "demo", *settings]
    with monkeypatch.context() as patch:
        before_step(patch, fill_the_disk)
        with pytest.raises(SystemExit) as stopped:
            main(["pretrain", *arguments])
    assert stopped.value.code == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "step_00000006.pt' needs" in said
    assert "The newest checkpoint is step_00000004.pt" in said
    saved = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert saved == ["step_00000002.pt", "step_00000004.pt"]
    for file in still_open:
        with file:
            assert os.fstat(file.fileno()).st_size == 0
    train(data, tmp_path, "steps=6", "checkpoint_every=2", resume=True)
    assert_same_encoder(tmp_path, whole)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_disk_too_full_for_a_record_is_named_with_what_is_saved(
    data: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "metrics.jsonl"

    def fill_the_disk(trainer: Trainer, batch: Batch) -> None:
        if trainer.step == 4:
            log.unlink()
            log.symlink_to("/dev/full")

    with monkeypatch.context() as patch:
        before_step(patch, fill_the_disk)
        expected = r"full: '.*metrics\.jsonl' .* step_00000004\.pt\.\n.*--resume"
        with pytest.raises(DiskFull, match=expected):
            train(data, tmp_path, "steps=6", "checkpoint_every=2")
    log.unlink()
    train(data, tmp_path, "steps=6", "checkpoint_every=2", resume=True)
    assert_same_encoder(tmp_path, whole)
