# Everything a developer does here. Each target sets itself up in a fresh clone: it needs Python 3.11 or newer,
# make and a package index, nothing else. What it installs stays in .venv*; the model goes to your data folder.

.POSIX:
.SUFFIXES:
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help setup run test test-all test-sdk test-ecosystem check lint types docs pages record build clean bench model
.PHONY: wheel-test lock audit soak

PYTHON := $(shell for python in $(PYTHON) python3 python3.13 python3.12 python3.11; do \
	"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo "$$python" && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --quiet --disable-pip-version-check

# The prompt reaches the shell as the text that was typed: make expands no $ in it, and the shell parses none of it.
export PROMPT_TEXT := $(value PROMPT)
unexport PROMPT
ARGS = -p local
PYTEST_ARGS = --numprocesses auto

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r target text; do \
		printf '  make %-14s %s\n' "$$target" "$$text"; done

setup: .venv/allos model  ## Install Allos with the local engine into .venv and get the small model

run: .venv/allos model  ## Answer PROMPT="…" on this machine; ARGS="-p groq" asks another provider
	@test -n "$$PROMPT_TEXT" || { echo 'Say what to ask: make run PROMPT="What is the capital of France?"' >&2; exit 2; }
	@$(BIN)/allos $(ARGS) -- "$$PROMPT_TEXT"

test: .venv/group-test  ## Run the tests
	@-$(BIN)/allos local pull > /dev/null
	$(BIN)/pytest $(PYTEST_ARGS)

test-all:  ## Run the tests on Python 3.11, 3.12 and 3.13, where they are found
	scripts/test-all $(PYTEST_ARGS)

test-sdk: .venv/allos  ## Run the tests that touch the SDK with the oldest release of it that is supported
	scripts/test-sdk

test-ecosystem: .venv/allos  ## Run other packages (agents, tracing, ...) on our clients, each in its own environment
	scripts/test-ecosystem

check: lint types test test-sdk docs wheel-test audit  ## Everything that must be green: lint, types, tests, docs, oldest SDK, wheel, advisories

lint: .venv/group-lint  ## Check style and format with ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/group-lint  ## Check the types with mypy, strictly
	$(BIN)/mypy

docs: .venv/group-docs  ## Build the documentation into site/
	$(BIN)/mkdocs build --strict --quiet

pages: .venv/allos  ## Write the generated parts of the documentation anew
	$(BIN)/python tools/pages.py

record: .venv/group-test  ## Record the cassettes anew from real servers on this machine
	$(BIN)/python tools/record.py $(ARGS_RECORD)

build: .venv/group-build  ## Build wheel and source archive into dist/
	rm -rf dist
	$(BIN)/python -m build --outdir dist .

bench: .venv/allos  ## Measure speed and memory
	$(BIN)/python bench/bench.py

soak: .venv/allos  ## Ask 100,000 times and leave 10,000 streams early; writes docs/soak.json
	$(BIN)/python bench/soak.py --write docs/soak.json

audit: .venv/group-audit  ## Look up known vulnerabilities of every locked package
	$(BIN)/python tools/audit.py

lock: .venv/group-lock  ## Write requirements/*.txt anew; ARGS_LOCK=--upgrade takes the newest releases
	scripts/lock $(ARGS_LOCK)

clean:  ## Remove everything that was built, environments included
	rm -rf .venv .venv-* build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

wheel-test: build
	scripts/test-wheel

model: .venv/allos
	@$(BIN)/allos local pull > /dev/null

.venv/pip: requirements/pip.txt
	@test -n "$(PYTHON)" || { echo 'Python 3.11 or newer is needed. Name it: make PYTHON=/path/to/python …' >&2; exit 2; }
	@echo 'Making .venv with $(PYTHON) ...' >&2
	@$(PYTHON) -m venv .venv
	@$(PIP) install --require-hashes --requirement requirements/pip.txt
	@touch $@

# What is installed is what requirements/ says, to the byte. The package itself is built with the locked hatchling.
.venv/allos: .venv/pip pyproject.toml requirements/allos.txt
	@echo 'Installing Allos with the local engine into .venv ...' >&2
	@$(PIP) install --require-hashes --requirement requirements/allos.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

.venv/group-test .venv/group-lint .venv/group-docs .venv/group-build .venv/group-audit .venv/group-lock: .venv/allos
	@echo "Installing what 'make $(@:.venv/group-%=%)' needs into .venv ..." >&2
	@$(PIP) install --require-hashes --requirement requirements/$(@:.venv/group-%=%).txt
	@touch $@
