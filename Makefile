# `make` or `make help` lists the targets. Every target makes the virtual environment when it is missing.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := true
export HYDRA_FULL_ERROR ?= 0

.DEFAULT_GOAL := help
.PHONY: help setup check quick test demo serve ui bench gpu clean

# Two processes: the suite is laid out for two cores. loadfile keeps a file's shared fixtures in one of them; the
# longest files come first (tests/conftest.py), so that neither process waits for the other in the end.
PYTEST := pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(VENV)/.installed ## make the virtual environment (.venv) with the pinned packages

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Making $(VENV): about 6 GB with torch, some minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit("Aisle needs Python 3.11 or newer, found " + sys.version.split()[0] + "; set PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

check: setup ## ruff and mypy
	ruff check .
	ruff format --check .
	mypy

quick: check ## ruff, mypy and every test but end-to-end ones
	$(PYTEST) -m "not e2e"

test: check ## ruff, mypy and every test, on the CPU
	$(PYTEST)

demo: setup ## end to end on synthetic images: from photos to a champion that answers
	python -m bench.demo

serve: setup ## serve the champion on http://127.0.0.1:8000
	aisle serve

ui: setup ## MLflow's UI on this project's runs and models
	aisle ui

bench: setup ## parity of service and evaluation on params.yaml's experiment; every row of docs/recipes.md; decoder memory
	python -m bench.parity
	python -m bench.rows
	python -m bench.decode_memory

gpu: setup ## one job folder trained, killed, resumed and served on a GPU, in 5 minutes
	python -m bench.gpu --prepare .aisle/gpu
	python -m bench.gpu --run .aisle/gpu

clean: ## remove the virtual environment
	rm -rf $(VENV)
