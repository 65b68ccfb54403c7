# `make demo` and `make test` are all a newcomer needs; both set the environment up first.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: setup demo test test-all lint bench docs clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt tools/setup.sh
	PYTHON=$(PYTHON) VENV=$(VENV) bash tools/setup.sh
	touch $(STAMP)

demo: setup
	$(BIN)/snnkd demo --out runs/demo

test: setup lint
	$(BIN)/python -m pytest -m "not slow and not gpu and not hardware"

test-all: setup lint
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: setup
	$(BIN)/python bench/all.py

docs: setup
	$(BIN)/python -m mkdocs build --quiet
	@echo "site/index.html"

clean:
	rm -rf $(VENV) runs site .pytest_cache .mypy_cache .ruff_cache .hypothesis
