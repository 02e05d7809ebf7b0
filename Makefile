# What developers and CI do with Headwater. Everything sets itself up in .venv from a bare checkout; the only things
# needed beforehand are Python 3.11 to 3.13 (PYTHON=... chooses one) and make.

VENV    := .venv
BIN     := $(VENV)/bin
PIP     := $(BIN)/python -m pip --disable-pip-version-check --quiet
RUNTIME := $(VENV)/.runtime-is-installed
DEV     := $(VENV)/.dev-is-installed
ARGS    ?=
MINUTES ?= 10
BENCHMARKS := $(addprefix benchmarks/,mqtt_broker.py mqtt_ingest.py thingspeak_update.py \
	thingspeak_fleet.py store_append.py store_series.py store_growth.py \
	store_under_load.py store_queries.py)

.DEFAULT_GOAL := help
CRASHES ?= 200
.PHONY: help run test check format bench soak crash fuzz docs lock clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS='	' read -r name text; do \
		printf '  make %-8s %s\n' "$$name" "$$text"; done

run: $(RUNTIME) ## Start Headwater with a demo account and a simulated weather station (ARGS="--http 0.0.0.0:8080" adds options)
	@exec $(BIN)/headwater serve --demo $(ARGS)

test: $(DEV) ## Run the whole test suite (ARGS="-k name" for a part)
	@scripts/system-packages
	$(BIN)/python -m pytest -n auto $(ARGS)

check: $(DEV) ## Formatter, linter, strict types, import contracts
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(DEV) ## Format the code and fix what the linter can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(DEV) ## Run every benchmark beside its peer
	@scripts/system-packages --benchmarks
	@for benchmark in $(BENCHMARKS); do \
		echo "== $$benchmark"; $(BIN)/python "$$benchmark" || exit 1; done

soak: $(DEV) ## Put an hour of mixed load on the broker and look for losses and leaks (ARGS="--minutes 10")
	$(BIN)/python benchmarks/mqtt_soak.py $(ARGS)

crash: $(DEV) ## Kill the store's process 200 times while it works (CRASHES=200), and 80 during upgrades and backups
	CRASHES=$(CRASHES) $(BIN)/python -m pytest -q -n 2 tests/crash

fuzz: $(DEV) ## Feed the codec and whole sessions with made-up bytes (MINUTES=10 for each; needs Linux)
	$(PIP) install 'atheris>=3'
	@mkdir -p build/fuzz/codec build/fuzz/session
	@for target in codec session; do \
		PYTHONPATH=tests:fuzz $(BIN)/python "fuzz/fuzz_$$target.py" -max_total_time=$$(( $(MINUTES) * 60 )) \
			-artifact_prefix=build/fuzz/ "build/fuzz/$$target" 2>build/fuzz/log || { tail -30 build/fuzz/log; exit 1; }; done

docs: $(DEV) ## Write the pages that are made from the code
	$(BIN)/python -m headwater.reference > docs/settings.md.new
	mv docs/settings.md.new docs/settings.md
	$(BIN)/python -m tests.conformance.page > docs/mqtt-conformance.md.new
	mv docs/mqtt-conformance.md.new docs/mqtt-conformance.md

lock: ## Raise requirements.lock to the newest versions that pyproject.toml allows
	scripts/refresh-lock

clean: ## Remove everything that make has made, but no data
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python: | scripts/make-venv
	scripts/make-venv $(VENV)

$(RUNTIME): $(BIN)/python pyproject.toml requirements.lock
	$(PIP) install --constraint requirements.lock --editable .
	@touch $@

$(DEV): $(BIN)/python pyproject.toml requirements.lock
	$(PIP) install --constraint requirements.lock --editable '.[dev]'
	@touch $@ $(RUNTIME)
