"""What a run shows while it goes: the pace is always there, and a record is one line of a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from dermino.pretrain import display
from dermino.pretrain.display import TrainingDisplay

TERMS = ["image_global", "image_local", "patch", "koleo", "knowledge"]
RECORD = {"total": 11.75, "images_per_second": 1234.0, **dict.fromkeys(TERMS, 2.3456)}


def shown(monkeypatch: pytest.MonkeyPatch, width: int, terminal: bool) -> list[str]:
    """Return the lines that are left of a run of many steps and five terms."""
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, color_system=None)
    monkeypatch.setattr(display, "console", console)
    with TrainingDisplay(0, 125_000, enabled=True) as training:
        training.update(124_990, RECORD, TERMS)
        training.update(125_000, RECORD, TERMS)
    lines = file.getvalue().splitlines()
    return [line for line in lines if line.strip()]


@pytest.mark.parametrize("width", [80, 100])
def test_losses_leave_the_pace_visible_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    lines = shown(monkeypatch, width, terminal=True)
    bar = next(line for line in reversed(lines) if "step 125000/125000" in line)
    assert "0:00:00 left, 1234 images/s" in bar
    assert any("knowledge 2.346" in line for line in lines)


def test_a_log_has_one_line_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    (line,) = shown(monkeypatch, 80, terminal=False)
    assert line.startswith("step 125000/125000: 0:00:00 left, 1234 images/s, total 11.750 ")
    assert line.endswith("knowledge 2.346")
