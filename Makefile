# Set-up, checks and the demo of kb-ingest. `make` alone prints what there is. Works with GNU make 3.81 (macOS) too.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# The first of these that is 3.11 or newer; `make PYTHON=...` names another.
PYTHON ?= $(firstword $(foreach p,python3 python3.11 python3.12 python3.13,\
	$(shell $p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $p)))
# More arguments for pip, such as the index with another build of torch (docs/deployment.md, "Which torch").
PIP_ARGS ?=
# More arguments for pytest: make test ARGS="-k ledger"
ARGS ?=

# How often `make faults` injects each fault, and where it keeps the figures.
FAULT_RUNS ?= 20
FAULT_REPORT := $(CURDIR)/.faults.jsonl

# The environment of other programs that read a collection.
READERS := .venv-readers

# The demo's environment holds what a load imports and nothing else. Its bytecode is compiled when it is first run: compiling all
# of it at once takes longer than the demo, and not keeping it slows down every process.
DEMO_VENV := .venv-demo
DEMO_PIP := $(CURDIR)/$(DEMO_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
DEMO := $(CURDIR)/.demo
# The demo must not write to the servers of the person who runs it, so their settings are left out: those of the
# environment by name, those of files by running in a folder of its own.
DEMO_RUN := cd $(DEMO) && env -u KB_REDIS_URL -u CELERY_BROKER_URL -u KB_QDRANT_URL -u QDRANT_URL -u KB_DATABASE_URL \
	-u KB_STAGING_URL -u KB_MODEL -u KB_MODEL_REVISION -u KB_EMBED_URL -u OPENAI_BASE_URL -u KB_COLLECTION \
	-u PYTHONDONTWRITEBYTECODE PYTHONPATH=$(CURDIR) KB_DATA_DIR=$(DEMO)/data HF_HUB_OFFLINE=1 \
	$(CURDIR)/$(DEMO_VENV)/bin/python -m workers

# Makes an environment: $(call make-venv,folder,options)
define make-venv
	@test -n "$(PYTHON)" || \
		{ echo "error: no Python 3.11 or newer found; install one or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		.ci/debian "$$($(PYTHON) -c 'import sys; print("python{}.{}-venv".format(*sys.version_info))')"
	@echo "==> Making $(1) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(2) $(1)
endef

.PHONY: help env services lint format docs test test-docker test-readers test-fast pictures faults bench audit documents demo clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP) ## make .venv with the tested versions (once; again when they change)

$(STAMP): pyproject.toml constraints.txt
	$(call make-venv,$(VENV))
	@echo "==> Installing $$(grep '^torch==' constraints.txt)"
	@# By itself and pinned: resolved among the others, a newer build of several gigabytes may be fetched before it is dropped.
	@$(PIP) $(PIP_ARGS) "$$(grep '^torch==' constraints.txt)"
	@echo "==> Installing kb-ingest with the extras offline and dev, versions as in constraints.txt (some minutes)"
	@$(PIP) $(PIP_ARGS) -e '.[offline,dev]'
	@touch $(STAMP)
	@echo "==> Ready: $(VENV)/bin/kb-ingest"

services: ## install what the tests start (redis-server, PostgreSQL, faketime, iproute2, Chromium), where that is possible
	@{ command -v redis-server && command -v faketime && command -v ip && command -v chromedriver && \
		ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1 \
		|| .ci/debian redis-server postgresql faketime iproute2 openssl chromium chromium-driver fonts-dejavu-core \
		|| { test -z "$${CI:-}" && \
		echo "warning: redis-server, PostgreSQL, faketime, iproute2 or Chromium is missing; tests that need it are" \
			"skipped here, and would fail in CI. So would those of the alert rules without promtool, which is optional on a desk:" \
			"Debian has it in the package prometheus, which also starts a Prometheus at every boot" >&2; }

COMPOSE_FILES := compose.yaml compose.gpu.nvidia.yaml compose.gpu.rocm.yaml tests/docker/compose.stand-in.yaml

lint: env ## ruff, mypy, the import rules, the Dockerfile and the compose files
	@echo "==> ruff check"
	@$(BIN)/ruff check .
	@echo "==> ruff format --check"
	@$(BIN)/ruff format --check .
	@echo "==> mypy"
	@$(BIN)/mypy
	@echo "==> lint-imports"
	@$(BIN)/lint-imports
	@echo "==> hadolint"
	@$(BIN)/hadolint docker/Dockerfile
	@echo "==> yamllint, and the schema of compose files"
	@$(BIN)/yamllint --strict $(COMPOSE_FILES) docker/monitoring
	@$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec $(COMPOSE_FILES)
	@if docker compose version >/dev/null 2>&1; then echo "==> docker compose config"; \
		for over in "" "-f compose.gpu.nvidia.yaml" "-f compose.gpu.rocm.yaml"; do \
			KB_REDIS_PASSWORD=x KB_API_KEY=x docker compose --env-file /dev/null -f compose.yaml $$over --profile '*' config --quiet \
				|| exit 1; done; fi

format: env ## let ruff format the code and mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: env ## write the table of settings in docs/configuration.md again
	@$(BIN)/python docs/settings_table.py

# Much of a test's time is waiting for processes and servers: three at a time on two cores take 20 to 24 minutes.
JOBS ?= 3

test: env services ## the whole test suite (JOBS tests at a time, default 3)
	@echo "==> pytest $(ARGS)"
	@$(BIN)/python -m pytest -m 'not docker' -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

test-docker: env ## build the image and test the deployment with it; needs an engine with compose v2 (some 15 minutes)
	@echo "==> pytest tests/docker $(ARGS)"
	@CI=true $(BIN)/python -m pytest tests/docker --timeout 900 $(ARGS)

test-readers: env $(READERS)/.installed ## run the examples of docs/search.md with the real LangChain and LlamaIndex
	@echo "==> pytest tests/readers $(ARGS)"
	@KB_TEST_READERS_PYTHON=$(CURDIR)/$(READERS)/bin/python $(BIN)/python -m pytest tests/readers $(ARGS)

$(READERS)/.installed: tests/readers/constraints.txt
	$(call make-venv,$(READERS),--clear)
	@echo "==> Installing LangChain and LlamaIndex, without torch: the tests bring their own embeddings"
	@$(READERS)/bin/python -m pip install --quiet --disable-pip-version-check -c tests/readers/constraints.txt \
		langchain-qdrant llama-index-vector-stores-qdrant
	@touch $@

test-fast: env ## unit tests only: no service, no worker processes
	@echo "==> pytest tests/unit $(ARGS)"
	@$(BIN)/python -m pytest tests/unit -m 'not slow' $(ARGS)

pictures: env services ## make the pictures of docs/monitoring.md again: real loads, looked at in Chromium (some 8 minutes)
	@KB_TEST_PICTURES=1 $(BIN)/python -m pytest $(shell grep -l '[ (]picture(' tests/integration/*.py) $(ARGS)

faults: env services ## the fault suite with more of each fault (FAULT_RUNS, default 20: three hours), and its table
	@rm -f $(FAULT_REPORT)
	@echo "==> pytest tests/faults, $(FAULT_RUNS) of each; the seed is printed, KB_FAULT_SEED gives it again"
	@KB_FAULT_RUNS=$(FAULT_RUNS) KB_FAULT_REPORT=$(FAULT_REPORT) $(BIN)/python -m pytest tests/faults --timeout 3600 $(ARGS)
	@$(BIN)/python -m tests.faults.table $(FAULT_REPORT)

BENCHMARKS := embedding load parsing overhead again footprint retrieval

bench: env ## all benchmarks (some 30 minutes on two idle cores), their tables and pictures in docs
	@.ci/debian python3-doc || echo "warning: the benchmarks read the pages of Debian's python3-doc" >&2
	@echo "==> Installing what is compared with"
	@$(PIP) $(PIP_ARGS) -e '.[offline,dev,bench]'
	@set -e; for benchmark in $(BENCHMARKS); do echo "==> benchmarks.$$benchmark"; \
		HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.$$benchmark; done
	@$(BIN)/python -m benchmarks.page
	@echo "==> Figures in benchmarks/results, tables and pictures in docs/performance.md and docs/search.md"

audit: ## look up known vulnerabilities of the versions in constraints.txt, where the registry answers such questions
	@echo "==> pip-audit, in an environment of its own"
	@$(PYTHON) -m venv .audit
	@.audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	@.audit/bin/pip-audit -r constraints.txt --no-deps --disable-pip

documents: env ## write the example documents in office formats to examples/documents again
	@echo "==> Making examples/documents"
	@$(BIN)/python examples/make_documents.py examples/documents

$(DEMO_VENV)/.installed: demo-packages.txt constraints.txt
	$(call make-venv,$(DEMO_VENV),--clear)
	@echo "==> Installing $$(grep '^torch==' constraints.txt) and what else a load imports, versions as in constraints.txt"
	@$(DEMO_PIP) $(PIP_ARGS) "$$(grep '^torch==' constraints.txt)"
	@$(DEMO_PIP) $(PIP_ARGS) --no-deps -r demo-packages.txt
	@touch $@

demo: $(DEMO_VENV)/.installed ## load this repository's guides and examples, answer two searches
	@mkdir -p $(DEMO)
	@echo "==> kb-ingest load README.md ARCHITECTURE.md docs examples --exclude '*.py' --exclude '*.svg' --exclude '*.png' (data folder .demo/data)"
	@$(DEMO_RUN) load $(CURDIR)/README.md $(CURDIR)/ARCHITECTURE.md $(CURDIR)/docs $(CURDIR)/examples --exclude '*.py' --exclude '*.svg' --exclude '*.png'
	@echo
	@echo "==> kb-ingest search 'what can I do with a scanned document?' --limit 3"
	@$(DEMO_RUN) search "what can I do with a scanned document?" --limit 3
	@echo
	@echo "==> kb-ingest search 'how do I back up the data folder?' --limit 3"
	@$(DEMO_RUN) search "how do I back up the data folder?" --limit 3
	@echo
	@echo "==> kb-ingest status"
	@$(DEMO_RUN) status
	@echo
	@echo "Run 'make demo' again: nothing is embedded twice. 'make clean' removes everything it made."

clean: ## remove .venv, the demo and all caches
	@rm -rf $(VENV) $(READERS) $(DEMO_VENV) .audit $(DEMO) $(FAULT_REPORT) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
