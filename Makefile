# `make help` says what there is. Everything happens in .venv; nothing else on the machine is
# changed, except that `make test` and `make bench` install Debian packages where they may.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?=
PEER ?=
JOBS ?= 2
SEED ?=
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.DEFAULT_GOAL := help
.PHONY: help install install-test run check test compare bench lock config clean

help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(VENV)/.run: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(PIP) install --constraint constraints.txt --editable '.[check,test]'
	@touch $@

install: $(VENV)/.run ## Install the service and its locked dependencies into .venv

install-test: $(VENV)/.test ## Install what the tests need, Debian packages too where possible
	@sh tests/install-packages
	@PYTHON=$(PYTHON) sh tests/install-openstack

run: $(VENV)/.run ## Run on http://127.0.0.1:9292 with SQLite and files under var/ (CONFIG=FILE: yours)
	@mkdir -p var
	@exec $(BIN)/imgservice run $(if $(CONFIG),--config $(CONFIG))

check: $(VENV)/.test ## Check format, style, types and the direction of imports
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install-test ## Run all tests in two processes (JOBS=N: in N; SEED=N: in an order seen before)
	$(BIN)/python -m pytest $(if $(filter-out 1,$(JOBS)),-n $(JOBS) --dist worksteal) \
		$(if $(SEED),--randomly-seed=$(SEED))

compare: $(VENV)/.test ## Show where answers differ from those of a Glance (PEER=URL ARGS="--clouds FILE")
	$(BIN)/python -m compare $(if $(PEER),peer $(PEER),check) $(ARGS)

bench: $(VENV)/.test ## Measure ours beside the limits of this machine (ARGS="--help")
	@sh bench/install-packages
	$(BIN)/python -m bench $(ARGS)

config: $(VENV)/.run ## Write the sample file and the reference page of the configuration
	$(BIN)/imgservice sample > conf/imgservice.yaml
	$(BIN)/python -m imgservice.config.reference > docs/reference/configuration.md

lock: ## Resolve the dependencies anew and write constraints.txt
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/pip --quiet install '.[check,test]'
	$(VENV)-lock/bin/pip freeze --exclude imgservice > constraints.txt
	rm -rf $(VENV)-lock

clean: ## Remove what the other targets made, but not var/
	rm -rf $(VENV) .cache .mypy_cache .pytest_cache .ruff_cache .import_linter_cache dist
