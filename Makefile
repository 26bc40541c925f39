# The words of this project. Everything installs into .venv; PYTHON chooses the interpreter that makes it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install demo test lint types bench contracts clean

help: ## show these words
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: $(VENV)/.installed ## make .venv and install everything the demo and the tests need

$(VENV)/.installed: pyproject.toml constraints.txt
	@command -v gcc >/dev/null && echo '#include <gmp.h>' | gcc -E - >/dev/null 2>&1 || \
	  { echo "install: libp2p's fastecdsa compiles C code; first run: sudo apt-get install -y gcc libgmp-dev python3-dev" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@

demo: install ## the main job: a real network on this machine that trains, answers, attributes and pays
	$(BIN)/commonlore demo $(DEMO_ARGS)

test: install ## the whole default suite, CPU only
	$(BIN)/python -m pytest

lint: install ## ruff: rules and format
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: install .types/commonlore ## mypy strict everywhere, pyright strict on protocol and scheduler
	$(BIN)/mypy && $(BIN)/pyright

bench: install ## the measurements of benchmarks/
	$(BIN)/python -m benchmarks.path --json

contracts: ## recompile the contracts with npm's solc and compare with the committed artefacts
	cd contracts && npm ci --ignore-scripts --no-audit --no-fund && ../$(BIN)/python -m commonlore.contracts.build --check

.types/commonlore: ## the type checkers' way from the import name to this folder, and to trio's own types
	mkdir -p .types && ln -sfn .. $@
	ln -sfn "$$($(BIN)/python -c 'import pathlib, trio; print(pathlib.Path(trio.__file__).parent)')" .types/trio

clean: ## remove what the other words made
	rm -rf $(VENV) .types build dist *.egg-info
