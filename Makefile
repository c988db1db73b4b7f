# `make demo` and `make test` work from a bare clone with Python 3.11 or newer; everything they need goes into .venv.

PYTHON ?= $(firstword $(foreach name,python3 python3.14 python3.13 python3.12 python3.11 python,\
	$(shell $(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))
BIN := .venv/bin

# The figures of the README; some minutes, on a machine with nothing else to do.
BENCHMARKS := gateway peer_transfer three_nodes memory cli sealing cutting hub_read vouchers

.PHONY: demo test test-houses test-slow simulate deceit clients matrix lab scorecard bench lint format clean

demo: .venv/ready
	@$(BIN)/p2pmodel demo

test: .venv/ready
	@$(BIN)/pytest -q

# Many daemons side by side: a minute more.
test-houses: .venv/ready
	@$(BIN)/pytest -q -m 'houses and not soak'

# What takes minutes, other people's clients, or root: each skips with its reason where it cannot run.
test-slow: .venv/ready .venv/clients .venv/fuzz
	@$(BIN)/pytest -q -n0 -m 'clients or lab or soak or attacks or houses'

# Whole nodes under virtual time, with faults (tests/simulation): some 0.35 CPU-seconds a world.
simulate: .venv/ready
	@$(BIN)/python -m tests.simulation --seeds 500 --processes $(shell nproc) --twice 40
	@for word in vouch prove; do $(BIN)/python -m tests.simulation --$$word --seeds 100 --processes $(shell nproc) || exit 1; done

# Twenty nodes of which one lies, or half of them: 500 worlds of each, 1.2 to 1.5 CPU-seconds a world where nothing else runs.
deceit: .venv/ready
	@for liars in one half; do $(BIN)/python -m tests.simulation --deceit $$liars --of 20 --seeds 500 --processes $(shell nproc) || exit 1; done

# Unmodified hub clients of several versions, each in an environment of its own, against real daemons.
clients: .venv/ready .venv/clients
	@$(BIN)/pytest -q -n0 -rs -m 'clients and not soak' tests/clients

# All of them, cold, warm at a peer and with the hub gone: some ten minutes; writes docs/clients.md.
# One of them: make matrix CLIENTS="modelscope curl"
matrix: .venv/ready
	@PYTHONPATH=tests $(BIN)/python -m matrix $(CLIENTS)

bench: .venv/ready
	@for name in $(BENCHMARKS); do echo "== $$name"; $(BIN)/python benchmarks/$$name.py || exit 1; done

# Real daemons on hosts of their own, which are network namespaces (tests/lab/README.md).
lab: .venv/ready
	@$(BIN)/pytest -q -n0 -rs -m lab tests/lab

# The security scorecard of the README: `make scorecard ROWS=S12`, or all of it (an hour).
ROWS ?= all
scorecard: .venv/ready .venv/fuzz
	@$(BIN)/pytest -q -rs --scorecard $(ROWS)

lint: .venv/ready
	@$(BIN)/ruff check -q .
	@$(BIN)/ruff format -q --check .
	@$(BIN)/mypy

format: .venv/ready
	@$(BIN)/ruff check -q --fix .
	@$(BIN)/ruff format -q .

clean:
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

.venv/ready: pyproject.toml
	@test -n "$(PYTHON)" || { echo "p2pmodel needs Python 3.11 or newer." >&2; exit 1; }
	@echo "Setting up .venv (once; about a minute)" >&2
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev]'
	@touch $@

# The fuzzer has wheels for some Pythons only; where it has none, its tests are skipped and say so.
.venv/fuzz: pyproject.toml | .venv/ready
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev,fuzz]' || echo "no fuzzer for this Python" >&2
	@touch $@

.venv/clients: pyproject.toml | .venv/ready
	@$(BIN)/python -m pip install -q --disable-pip-version-check -e '.[dev,clients]'
	@touch $@
