# Everything runs inside .venv, so the two commands of the README work on a fresh machine.
.ONESHELL:
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c

PYTHON ?= python3
VENV := .venv
OUT ?= demo
DATA ?=

.PHONY: demo test install clean

install: $(VENV)/.installed

# The stamp is rewritten only after pip succeeded, so an interrupted install is taken up again.
$(VENV)/.installed: pyproject.toml
	test -x "$(VENV)/bin/python" || $(PYTHON) -m venv "$(VENV)"
	"$(VENV)/bin/python" -m pip install --quiet --disable-pip-version-check --editable ".[dev]"
	touch "$(VENV)/.installed"

demo: install
	"$(VENV)/bin/python" -m dermino demo --out "$(OUT)" $(if $(DATA),--data "$(DATA)")

test: install
	"$(VENV)/bin/python" -m ruff check .
	"$(VENV)/bin/python" -m ruff format --check .
	"$(VENV)/bin/python" -m mypy
	"$(VENV)/bin/python" -m pytest

clean:
	rm -rf "$(VENV)" demo .mypy_cache .ruff_cache .pytest_cache
