"""The JSON tables beside the code: the knowledge that is data."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any


def read_table(name: str) -> dict[str, Any]:
    """Return a shipped table without the line that says what it is for."""
    text = files("dermino.knowledge").joinpath(f"{name}.json").read_text(encoding="utf-8")
    return {key: value for key, value in json.loads(text).items() if key != "about"}
