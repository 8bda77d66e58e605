# make install | demo | test | lint | bench: on a machine with only Python 3.11+ and make.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install demo test lint bench

install: $(INSTALLED)

# The constraints pin torch to a CPU build's version; elsewhere the package's own range decides.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo,dev,ants]"
	touch $@

demo: install
	$(BIN)/soloatlas demo

# Files of tests side by side, a file in one process: its tests share what they trained. A process may take 3 GB.
test: install lint
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: install
	$(BIN)/python benchmarks/run.py
