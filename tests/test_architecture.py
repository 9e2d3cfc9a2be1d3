"""Imports point one way, as docs/architecture.md draws it."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "dermino"
# From the ground up; a room imports from those on lower floors only.
FLOORS = (
    {"errors"},
    {"files", "registry", "progress"},
    {"config"},
    {"data"},
    {"models"},
    {"knowledge"},
    {"pretrain", "evaluate"},
    {"audit", "report"},
    {"search", "demo", "ablation"},
    {"cli"},
    {"__main__", "__init__"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def imported_rooms(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively"
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            if name.startswith("dermino."):
                yield name.split(".")[1]


@pytest.mark.parametrize("room", sorted(FLOOR))
def test_imports_point_downwards(room: str) -> None:
    folder = SOURCE / room
    files = list(folder.rglob("*.py")) if folder.is_dir() else [SOURCE / f"{room}.py"]
    for file in files:
        for other in imported_rooms(file):
            assert other == room or FLOOR[other] < FLOOR[room], f"{file.name} imports {other}"


def test_every_room_has_a_floor() -> None:
    rooms = {path.stem for path in SOURCE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert rooms - {"__pycache__", "recipes"} == set(FLOOR)


def test_pretraining_starts_without_what_it_does_not_use() -> None:
    program = (
        "import sys, dermino.pretrain.pretrain\n"
        "print(*{'torchmetrics', 'transformers', 'matplotlib'} & sys.modules.keys())\n"
        "import torchmetrics"  # Whoever wants it later gets it.
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not done.stdout.strip()
