# What people do with a checkout. Set-up is part of every target, goes on where it was interrupted, and costs nothing the second time.

.DEFAULT_GOAL := help
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
export PERDURE_HOME ?= $(CURDIR)/.perdure
export PYTHONDONTWRITEBYTECODE =    # whatever the environment asks for: without kept bytecode every process takes twice as long to start
INSTALLED := $(VENV)/.installed
SERVERS := $(PERDURE_HOME)/bin/.ready
TEST_SERVER := $(PERDURE_HOME)/test-server
LABEL_STUDIO := $(PERDURE_HOME)/label-studio

KILLS ?= 30
LABELS ?= 20000
SEED ?= 1

# the first Python on the PATH that fits pyproject.toml
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$python && break; done)

.PHONY: help setup up down demo demo-drift test test-long test-labelstudio check bench chaos flood lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(INSTALLED) $(SERVERS) ## virtual environment and servers; minutes the first time

$(VENV)/.made:
	@[ -n "$(PYTHON)" ] || { echo "Perdure needs Python 3.11, 3.12 or 3.13 on the PATH, or PYTHON=..."; exit 1; }
	@echo "virtual environment from $$($(PYTHON) --version), in $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(BIN)/uv: | $(VENV)/.made
	@awk '/^uv==/,!/\\$$/' requirements.lock > $(VENV)/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r $(VENV)/uv.txt

$(INSTALLED): requirements.lock pyproject.toml | $(BIN)/uv
	@echo "installing what requirements.lock pins (half a minute to two minutes; 500 MB where nothing is cached)"
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(SERVERS): $(INSTALLED) src/perdure/local/servers.py $(wildcard src/perdure/local/go/*/go.*)
	@$(BIN)/python -m perdure.local.servers
	@touch $@

up: setup ## start the local stack, and leave it running
	@$(BIN)/perdure up

down: $(INSTALLED) ## stop it; data stays
	@$(BIN)/perdure down

demo: setup ## the example pipeline from raw data to a released model, with two kills on the way
	@$(BIN)/python examples/moderation/demo.py

demo-drift: setup ## the example air-quality: two years of traffic, watched, and trained again where it errs more; minutes
	@$(BIN)/python examples/air-quality/demo.py

test: setup $(TEST_SERVER)/.tried ## the tests, on real servers of their own
	@$(BIN)/pytest -n 3

test-long: setup ## attacks and documents that take minutes
	@$(BIN)/pytest -n 2 -m long

# Temporal's time-skipping server, for a few tests; without Java, Maven or a network they are skipped
$(TEST_SERVER)/.tried: infra/test-server/pom.xml
	@mkdir -p $(@D)
	@if command -v java >/dev/null && command -v mvn >/dev/null; then \
		timeout 300 mvn -q -B -f $< dependency:copy-dependencies -DoutputDirectory=$(@D)/lib || rm -rf $(@D)/lib; fi
	@touch $@

test-labelstudio: setup $(LABEL_STUDIO)/.installed ## the tests that need a real Label Studio
	@$(BIN)/pytest -m labelstudio tests/labelstudio

$(LABEL_STUDIO)/.installed: infra/label-studio/requirements.lock | $(INSTALLED)
	@echo "installing Label Studio into $(LABEL_STUDIO) (800 MB)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(LABEL_STUDIO)
	@VIRTUAL_ENV=$(LABEL_STUDIO) $(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes $<
	@touch $@

check: $(INSTALLED) ## lint, format, types, import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## the benchmarks; results go to benchmarks/results
	@$(BIN)/python -m benchmarks

chaos: setup ## KILLS=n random kills under SEED=s; goes on where it was interrupted
	@$(BIN)/python -m tests.chaos --kills $(KILLS) --seed $(SEED)

flood: setup ## LABELS=n labels under SEED=s while what takes them is killed
	@$(BIN)/python -m tests.flood --labels $(LABELS) --seed $(SEED)

lock: $(INSTALLED) ## pin the newest versions that pyproject.toml allows
	$(BIN)/uv pip compile --upgrade --universal --generate-hashes --no-emit-index-url --extra local --extra train-cpu --extra serve-ray --group dev \
		pyproject.toml -o requirements.lock --no-annotate
	$(BIN)/uv pip compile --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" infra/label-studio/requirements.txt -o infra/label-studio/requirements.lock

clean: ## stop the stack and remove all that was made here, data too
	@[ ! -x $(BIN)/perdure ] || $(BIN)/perdure down
	@rm -rf $(VENV) .perdure build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
