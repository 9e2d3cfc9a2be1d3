"""Loggers: what reaches TensorBoard, W&B and MLflow, also after a kill, and what never does."""

import json
import os
import signal
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from dermino.data.manifest import Manifest
from dermino.errors import UserError
from dermino.pretrain import trainer
from dermino.pretrain.interruption import Interrupted
from dermino.pretrain.loggers import tensorboard
from dermino.pretrain.pretrain import pretrain

TINY = [
    "model.model_args={depth: 1, embed_dim: 16, num_heads: 1}",
    "head={num_prototypes: 16, hidden_dim: 16, bottleneck_dim: 8}",
    "views={global_size: 32, local_crops: 0}",
    "batch_size_per_device=8",
    "log_every=1",
    "checkpoint_every=2",
    "workers=0",
    "steps=5",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    random = np.random.default_rng(0)
    names = [f"patient_name_{i}.png" for i in range(16)]
    for name in names:
        Image.fromarray(random.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(folder / name)
    frame = pd.DataFrame({"image": names, "dataset": "clinic"})
    Manifest.from_frame(frame, folder).write(folder / "clinic.parquet")
    return folder


def train_killed_after(
    monkeypatch: pytest.MonkeyPatch, data: Path, run: Path, step: int, loggers: str
) -> None:
    """Train, die when ``step`` steps are done, and resume."""
    real = trainer.Trainer.take_step

    def dies(self: trainer.Trainer, *arguments: Any) -> Any:
        if self.step == step:
            raise KeyboardInterrupt
        return real(self, *arguments)

    options = ([data / "clinic.parquet"], run, None, "demo", [*TINY, f"loggers={loggers}"])
    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "take_step", dies)
        with pytest.raises(KeyboardInterrupt):
            pretrain(*options)
    pretrain(*options, resume=True)


@pytest.mark.parametrize("step", [1, 3], ids=["before a checkpoint", "after one"])
def test_tensorboard_holds_each_step_once_after_a_kill(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    run = tmp_path / "run"
    train_killed_after(monkeypatch, data, run, step, "[tensorboard]")
    assert len(list((run / "tensorboard").iterdir())) == 2
    events = EventAccumulator(str(run / "tensorboard")).Reload()
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for name in ("total", "learning_rate", "feature_spread", "image_entropy"):
        scalars = events.Scalars(name)
        assert [scalar.step for scalar in scalars] == [1, 2, 3, 4, 5]
        values = [line[name] for line in lines]
        np.testing.assert_allclose([scalar.value for scalar in scalars], values, rtol=1e-6)
    assert "config/text_summary" in events.Tags()["tensors"]
    written = b"".join(path.read_bytes() for path in (run / "tensorboard").iterdir())
    assert b"num_prototypes: 16" in written
    assert b"patient_name" not in written


class Wandb(ModuleType):
    """Stands in for the calls that are made of W&B."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.opened: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.exits: list[int] = []

    def Settings(self, **settings: Any) -> dict[str, Any]:  # noqa: N802 - W&B's name.
        return settings

    def init(self, **arguments: Any) -> Any:
        self.opened.append(arguments)

        def log(values: dict[str, float], step: int) -> None:
            self.logged.append((step, values))

        def finish(exit_code: int) -> None:
            self.exits.append(exit_code)

        return SimpleNamespace(log=log, finish=finish)


class Mlflow(ModuleType):
    """Stands in for the calls that are made of MLflow."""

    def __init__(self) -> None:
        super().__init__("mlflow")
        self.experiment = ""
        self.started: list[dict[str, str]] = []
        self.ended: list[str] = []
        self.params: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, float]]] = []

    def set_experiment(self, name: str) -> None:
        self.experiment = name

    def start_run(self, **arguments: str) -> Any:
        self.started.append(arguments)
        return SimpleNamespace(info=SimpleNamespace(run_id="run-7"))

    def log_params(self, params: dict[str, Any]) -> None:
        self.params |= params

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append((step, metrics))

    def end_run(self, status: str) -> None:
        self.ended.append(status)

    def MlflowClient(self) -> Any:  # noqa: N802 - MLflow's name.
        def history(run_id: str, name: str) -> list[Any]:
            assert run_id == "run-7"
            return [SimpleNamespace(step=step) for step, record in self.logged if name in record]

        def set_terminated(run_id: str, status: str) -> None:
            self.ended.append(f"{run_id} {status}")

        return SimpleNamespace(get_metric_history=history, set_terminated=set_terminated)


def test_wandb_gets_each_record_with_its_step_and_no_paths(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", service)
    train_killed_after(monkeypatch, data, tmp_path / "run", 3, "[wandb]")
    # Steps that are repeated after a kill are the service's to leave out.
    assert [step for step, _ in service.logged] == [1, 2, 3, 3, 4, 5]
    assert {"total", "koleo", "feature_spread"} <= set(service.logged[0][1])
    first, second = service.opened
    assert first["id"] == second["id"]
    # Without leave to resume W&B replaces what it has of a run of that name.
    assert (first["resume"], second["resume"]) == (None, "allow")
    assert first["config"]["head"]["num_prototypes"] == 16
    assert (first["project"], first["name"]) == ("dermino", "run")
    assert os.environ["WANDB_X_SAVE_REQUIREMENTS"] == "false"
    assert service.exits == [1, 0]
    assert "patient_name" not in str(service.opened) + str(service.logged)


def test_mlflow_gets_each_step_once(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Mlflow()
    monkeypatch.setitem(sys.modules, "mlflow", service)
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    train_killed_after(monkeypatch, data, tmp_path / "run", 3, "[mlflow]")
    assert [step for step, _ in service.logged] == [1, 2, 3, 4, 5]
    assert service.started == [{"run_name": "run"}, {"run_id": "run-7"}]
    assert service.params["head.num_prototypes"] == 16
    assert service.experiment == "dermino"
    assert service.ended == ["KILLED", "FINISHED"]


def test_mlflow_is_told_that_a_run_without_a_checkpoint_has_ended(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Mlflow()
    monkeypatch.setitem(sys.modules, "mlflow", service)
    (tmp_path / "tracking.json").write_text('{"mlflow": "run-6"}')
    pretrain([data / "clinic.parquet"], tmp_path, None, "demo", [*TINY, "loggers=[mlflow]"])
    assert service.ended == ["run-6 KILLED", "FINISHED"]
    assert json.loads((tmp_path / "tracking.json").read_text()) == {"mlflow": "run-7"}


@pytest.mark.parametrize(
    ("fails", "ended"), [({"log_metrics"}, ["KILLED"]), ({"log_metrics", "end_run"}, [])]
)
def test_a_server_that_fails_costs_its_records_and_not_the_run(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    fails: set[str],
    ended: list[str],
) -> None:
    service = Mlflow()
    for call in fails:
        unreachable = Mock(side_effect=ConnectionError("no route to host"))
        monkeypatch.setattr(service, call, unreachable)
    monkeypatch.setitem(sys.modules, "mlflow", service)
    run = tmp_path / "run"
    pretrain([data / "clinic.parquet"], run, None, "demo", [*TINY, "loggers=[mlflow]"])
    assert capsys.readouterr().err.count("no route to host") == 1
    assert service.ended == ended
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 5


def test_a_server_that_fails_at_the_end_changes_neither_exit_code_nor_export(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    service = Mlflow()
    monkeypatch.setattr(service, "end_run", Mock(side_effect=ConnectionError("no route to host")))
    monkeypatch.setitem(sys.modules, "mlflow", service)
    options = ([data / "clinic.parquet"], tmp_path, None, "demo", [*TINY, "loggers=[mlflow]"])
    real = trainer.Trainer.take_step

    def told_to_stop(self: trainer.Trainer, *arguments: Any) -> Any:
        self.interruption.number = signal.SIGTERM
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "take_step", told_to_stop)
        with pytest.raises(Interrupted) as stopped:
            pretrain(*options)
    assert stopped.value.code == 143
    assert pretrain(*options, resume=True).is_file()
    assert capsys.readouterr().err.count("'mlflow' failed at the end") == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no disk that is always full")
def test_a_disk_too_full_for_tensorboard_does_not_end_the_run(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    log = tensorboard.TensorBoardLogger.log

    def fill_the_disk(self: tensorboard.TensorBoardLogger, step: int, record: Any) -> None:
        if step == 2:
            self._writer = type(self._writer)(open("/dev/full", "wb"))  # noqa: SIM115
        log(self, step, record)

    monkeypatch.setattr(tensorboard.TensorBoardLogger, "log", fill_the_disk)
    pretrain([data / "clinic.parquet"], tmp_path, None, "demo", TINY)
    said = capfd.readouterr().err
    assert said.count("The logger 'tensorboard' failed at step 2") == 1
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("logger", "message"),
    [("wandb", r"pip install dermino\[tracking\]"), ("tensorbord", "Did you mean 'tensorboard'")],
)
def test_a_logger_that_is_not_there_is_named_before_any_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logger: str, message: str
) -> None:
    monkeypatch.setattr("dermino.pretrain.logger._is_installed", lambda package: False)
    options = [*TINY, f"loggers=[{logger}]"]
    with pytest.raises(UserError, match=message):
        pretrain([data / "clinic.parquet"], tmp_path / "run", None, "demo", options)
    assert not (tmp_path / "run").exists()
