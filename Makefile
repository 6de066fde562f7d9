# Every target does its own set-up: all that is needed beforehand is Python 3.11 or newer.
.DEFAULT_GOAL := help
.PHONY: help run test bench lint format migration lock clean setup setup-dev setup-bench

SHELL := /bin/sh
BIN := .venv/bin
ARGS ?=

# Values that people type reach the recipes through the environment, never through the shell's parser.
export m

help: ## List what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: setup ## Start Foyer with demo data; Ctrl-C stops it
	@$(BIN)/python -m tools.run

test: setup-dev ## Run all tests; ARGS="-k users" chooses, ARGS="-n 0" runs in one process
	@$(BIN)/python -m tools.chromium
	@$(BIN)/python -m pytest -n auto --maxprocesses 8 $(ARGS)

bench: setup-bench ## Measure speed and scale; ARGS="--quick" or "--rows engine-sqlite" for less
	@$(BIN)/python -m benchmarks $(ARGS)

lint: setup-dev ## Check style and types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup-dev ## Put the code into the project's style
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	@$(BIN)/ruff format .

migration: setup-dev ## Write a migration for changed models: make migration m="add extensions"
	@test -n "$$m" || { echo 'Say what changes: make migration m="add extensions"' >&2; exit 2; }
	@$(BIN)/flask --app app db upgrade
	@$(BIN)/flask --app app db migrate -m "$$m"

lock: setup-dev ## Resolve the dependencies anew and write requirements/*.txt
	@$(BIN)/python -m tools.lock $(ARGS)

clean: ## Remove what the other targets made, demo data included; stop `make run` first
	@sh tools/python.sh tools/clean.py

setup:
	@sh tools/python.sh tools/setup.py run

setup-dev:
	@sh tools/python.sh tools/setup.py dev

setup-bench:
	@sh tools/python.sh tools/setup.py bench
