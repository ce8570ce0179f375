PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := demo
EXTRAS ?= dev

.PHONY: help demo install check test test-all docs build clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

demo: install  ## rank, check and patch the bundled models, offline, and write report.html
	$(BIN)/vlmtools demo

install: .venv/installed  ## everything into .venv

.venv/installed: pyproject.toml constraints.txt hatch_build.py
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[$(EXTRAS)]'
	touch $@

check: install  ## lint, types, direction of imports, generated files up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy vlmtools scripts hatch_build.py $(wildcard adapters/*.py benchmarks/*.py benchmarks/*/*.py)
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/write_docs.py --check
	$(BIN)/python scripts/write_demo_captions.py --check

test: install  ## everything that fits ten minutes on two cores
	$(BIN)/python -m pytest -n 2 -m "not slow and not gpu"

test-all: install  ## the long ones too
	$(BIN)/python -m pytest -n 2 -m "not gpu"

docs: install  ## write the generated pages under docs/
	$(BIN)/python scripts/write_docs.py

build: install  ## wheel and sdist
	$(BIN)/python -m build

clean:  ## remove what was made, the virtual environment too
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
