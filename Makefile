# Two commands do everything on a machine with Python >= 3.11: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Each file stays in one process, with what its tests share; in the order of the files, so that the long ones in the
# middle are not left to one process at the end.
PROCESSES ?= 2
PYTEST := $(BIN)/python -m pytest -q -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

.PHONY: demo test check e2e lint format bench fuzz setup clean help

help:  ## Show this
	@grep -E '^[a-z0-9]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

# Everything below needs the environment; it is made once, and again when the dependencies change.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Spangate needs Python >= 3.11; name one with: make PYTHON=python3.12 ..."; exit 1; }
	@echo "- making $(VENV) (about half a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	@echo "- installing Spangate and its tools"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . --group dev
	@touch $(STAMP)

setup: $(STAMP)  ## Make the environment and compile the SQL analyser
	@$(BIN)/spangate setup

demo: setup  ## Start everything, run three programs, show who did what
	@$(BIN)/python examples/shop/demo.py

lint: $(STAMP)  ## Lint, types, layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

check: setup lint  ## Lint and the fast tests: not end-to-end, nor the searches of tests/properties
	$(PYTEST) -m "not e2e and not thorough"

test: setup lint  ## Everything: lint, unit, properties, conformance, docs, end-to-end
	$(PYTEST)

e2e: setup  ## Only the end-to-end tests
	$(PYTEST) -m e2e

bench: setup  ## Measure everything once, in small (needs h2load)
	$(BIN)/python -m bench

SECONDS ?= 60
fuzz: setup  ## Search for a request that gets past the filter: SECONDS=60 make fuzz
	PYTHONPATH=tests $(BIN)/python -m fuzz --seconds $(SECONDS)

format: $(STAMP)  ## Format the code
	$(BIN)/ruff check --fix --quiet
	$(BIN)/ruff format

clean:  ## Remove the environment and what the demo left
	rm -rf $(VENV) examples/*/.spangate .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
