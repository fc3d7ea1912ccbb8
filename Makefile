# Set-up, checks and the demo of kb-ingest. `make` alone lists the targets. Works with GNU make 3.81 (macOS) too.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# The first of these that is 3.11 or newer; override it with `make PYTHON=...`. Not `?=`, which looks for it at each use.
ifeq ($(origin PYTHON),undefined)
PYTHON := $(firstword $(foreach p,python3 python3.11 python3.12 python3.13,\
	$(shell $p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $p)))
endif
# Extra arguments for pip, such as the index of another build of torch (docs/deployment.md, "Which torch").
PIP_ARGS ?=
# Extra arguments for pytest: make test ARGS="-k ledger"
ARGS ?=

# How many times `make faults` injects each fault, and where it stores the figures.
FAULT_RUNS ?= 20
FAULT_REPORT := $(CURDIR)/.faults.jsonl

# The environment of third-party programs that read a collection.
READERS := .venv-readers

# The environment of the frameworks that loads are compared with.
PEERS := .venv-peers

# The environment of the readers of PDFs that kb-ingest is compared with.
PDF_READERS := .venv-pdf-readers

# The demo's environment contains only the packages that a load imports. Python compiles their bytecode at first use: compiling
# all of it at once takes longer than the demo, and not keeping it slows down every process.
DEMO_VENV := .venv-demo
DEMO_PIP := $$(test -e $(DEMO_VENV)/bin/pip3 && echo $(DEMO_VENV)/bin/pip3 || echo $(PYTHON) -m pip --python $(DEMO_VENV)/bin/python) \
	install --quiet --disable-pip-version-check --no-compile -c constraints.txt
DEMO := $(CURDIR)/.demo
# The demo must not write to the user's servers, so it ignores the user's settings: it unsets environment variables by name,
# and it runs in its own folder, without their files.
DEMO_RUN := cd $(DEMO) && env -u KB_REDIS_URL -u CELERY_BROKER_URL -u KB_QDRANT_URL -u QDRANT_URL -u KB_DATABASE_URL \
	-u KB_STAGING_URL -u KB_MODEL -u KB_MODEL_REVISION -u KB_EMBED_URL -u OPENAI_BASE_URL -u KB_COLLECTION \
	-u PYTHONDONTWRITEBYTECODE PYTHONPATH=$(CURDIR) KB_DATA_DIR=$(DEMO)/data HF_HUB_OFFLINE=1 \
	$(CURDIR)/$(DEMO_VENV)/bin/python -m workers

# Create an environment: $(call make-venv,folder,options)
define make-venv
	@test -n "$(PYTHON)" || \
		{ echo "error: no Python 3.11 or newer found; install one or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
		.ci/debian "$$($(PYTHON) -c 'import sys; print("python{}.{}-venv".format(*sys.version_info))')"
	@echo "==> Making $(1) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(2) $(1)
endef

.PHONY: help env services lint format docs test test-all test-docker test-readers pictures faults bench bench-serve bench-retrieval bench-peers bench-documents audit documents demo clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: $(STAMP) ## create .venv with the tested versions (again when they change)

$(STAMP): pyproject.toml constraints.txt
	$(call make-venv,$(VENV))
	@echo "==> Installing $$(grep '^torch==' constraints.txt)"
	@# Separately and pinned: with the others, pip may download a newer build of several gigabytes and then discard it.
	@$(PIP) $(PIP_ARGS) "$$(grep '^torch==' constraints.txt)"
	@echo "==> Installing kb-ingest with the extras offline and dev, versions as in constraints.txt (some minutes)"
	@$(PIP) $(PIP_ARGS) -e '.[offline,dev]'
	@touch $(STAMP)
	@echo "==> Ready: $(VENV)/bin/kb-ingest"

services: ## install the servers and tools of the tests (git, redis-server, PostgreSQL, Chromium, Tesseract, LibreOffice ...), if possible
	@{ command -v git && command -v redis-server && command -v faketime && command -v ip && command -v chromedriver && \
		tesseract --list-langs | grep -qx rus && command -v soffice && command -v cjb2 && \
		ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1 \
		|| .ci/debian git redis-server postgresql faketime iproute2 openssl chromium chromium-driver fonts-dejavu-core \
		tesseract-ocr tesseract-ocr-rus djvulibre-bin \
		libreoffice-writer libreoffice-calc libreoffice-impress libreoffice-math \
		|| { test -z "$${CI:-}" && \
		echo "warning: git, redis-server, PostgreSQL, faketime, iproute2, Chromium, Tesseract with Russian, LibreOffice or DjVuLibre is missing; tests that need it are" \
			"skipped here, but fail in CI. The same applies to tests of the alert rules without promtool, which is optional on a" \
			"desktop: Debian has it in the package prometheus, which also starts a Prometheus at every boot" >&2; }

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

format: env ## format the code with ruff and apply its fixes
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: env ## regenerate the table of settings in docs/configuration.md
	@$(BIN)/python docs/settings_table.py

# One pytest-xdist worker per core and one more, as tests wait for half of their time, and some have deadlines. Tests of a file run together, as they
# share fixtures.
JOBS ?= $(shell $(PYTHON) -c 'import os; print(1 + (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()))')
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

test: env services ## run the tests without the slow suites (some minutes)
	@echo "==> pytest $(ARGS)"
	@$(PYTEST) -m 'not slow and not docker and not readers' $(ARGS)

test-all: env services ## run all tests except those of containers (20 to 40 minutes on two cores)
	@echo "==> pytest $(ARGS)"
	@$(PYTEST) -m 'not docker and not readers' $(ARGS)

test-docker: env ## build the image and test the deployment with it; needs an engine with compose v2 (about 15 minutes)
	@echo "==> pytest tests/docker $(ARGS)"
	@CI=true $(BIN)/python -m pytest tests/docker --timeout 900 $(ARGS)

test-readers: env $(READERS)/.installed ## run the examples of docs/search.md with the real LangChain and LlamaIndex
	@echo "==> pytest tests/readers $(ARGS)"
	@KB_TEST_READERS_PYTHON=$(CURDIR)/$(READERS)/bin/python $(BIN)/python -m pytest tests/readers $(ARGS)

$(READERS)/.installed: tests/readers/constraints.txt
	$(call make-venv,$(READERS),--clear)
	@echo "==> Installing LangChain and LlamaIndex, without torch: the tests bring their own embeddings"
	@$(READERS)/bin/python -m pip install --quiet --disable-pip-version-check -c tests/readers/constraints.txt \
		langchain-qdrant llama-index-vector-stores-qdrant pystemmer
	@touch $@

pictures: env services ## regenerate the pictures of the guides from real loads, in Chromium (about 8 minutes)
	@$(BIN)/python -m docs.terminal_pictures
	@KB_TEST_PICTURES=1 $(BIN)/python -m pytest $(shell grep -l '[ (]picture(' tests/integration/*.py) $(ARGS)

faults: env services ## run the fault suite with FAULT_RUNS of each fault (default 20: three hours), and print its table
	@rm -f $(FAULT_REPORT)
	@echo "==> pytest tests/faults, $(FAULT_RUNS) of each; set KB_FAULT_SEED to the printed seed to repeat a run"
	@KB_FAULT_RUNS=$(FAULT_RUNS) KB_FAULT_REPORT=$(FAULT_REPORT) $(BIN)/python -m pytest tests/faults --timeout 3600 $(ARGS)
	@$(BIN)/python -m tests.faults.table $(FAULT_REPORT)

BENCHMARKS := embedding load small start parsing overhead again footprint retrieval

bench: env ## run all benchmarks (about 30 minutes on two idle cores), and update tables and pictures in docs
	@.ci/debian python3-doc || echo "warning: cannot install python3-doc, whose pages the benchmarks read" >&2
	@echo "==> Installing the packages to compare with"
	@$(PIP) $(PIP_ARGS) -e '.[offline,dev,bench]'
	@set -e; for benchmark in $(BENCHMARKS); do echo "==> benchmarks.$$benchmark"; \
		HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.$$benchmark; done
	@$(BIN)/python -m benchmarks.page
	@echo "==> Figures in benchmarks/results, tables and pictures in docs/performance.md and docs/search.md"

bench-serve: env ## measure searches of the service: latency, queries a second, memory (some minutes on two idle cores)
	@HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.serve $(ARGS)

bench-retrieval: env ## measure searches of CISI, CACM and Cranfield; SETS=<folder of their files, docs/retrieval.md>
	@test -f "$(SETS)/CISI.ALL" || { echo "error: set SETS to a folder with the files that docs/retrieval.md names" >&2; exit 1; }
	@$(PIP) $(PIP_ARGS) -e '.[offline,dev,bench]'
	@HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.judged $(SETS) $(ARGS)

bench-peers: env $(PEERS)/.installed ## load pages beside LangChain, LlamaIndex and Haystack, tuned alike (hours on two idle cores)
	@HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.peers --python $(PEERS)/bin/python $(ARGS)

$(PEERS)/.installed: benchmarks/peers/constraints.txt constraints.txt
	$(call make-venv,$(PEERS),--clear)
	@echo "==> Installing LangChain, LlamaIndex and Haystack, with kb-ingest's versions of torch and sentence-transformers"
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) "$$(grep '^torch==' constraints.txt)"
	@# The files name every package: pip, if it looked for versions itself, would try older and older ones for a quarter of an hour.
	@$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) --no-deps -r benchmarks/peers/constraints.txt \
		-r <(grep -E '^(sentence-transformers|transformers|tokenizers|numpy|qdrant-client)==' constraints.txt)
	@$(PEERS)/bin/python -m pip check --disable-pip-version-check
	@touch $@

bench-documents: env $(PDF_READERS)/.installed ## measure how much text comes out of documents; DOCLING=<checkout of docling's repository>
	@test -d "$(DOCLING)/tests/data" || { echo "error: set DOCLING to a checkout of https://github.com/docling-project/docling" >&2; exit 1; }
	@HF_HUB_OFFLINE=1 $(BIN)/python -m benchmarks.documents $(DOCLING) --readers $(PDF_READERS)/bin/python $(ARGS)

$(PDF_READERS)/.installed: benchmarks/readers.txt
	$(call make-venv,$(PDF_READERS),--clear)
	@echo "==> Installing pypdf, pymupdf4llm, pdf-inspector and kreuzberg"
	@$(PDF_READERS)/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -r $<
	@touch $@

audit: ## look up known vulnerabilities of the versions in constraints.txt, if the registry supports it
	@echo "==> pip-audit, in its own environment"
	@$(PYTHON) -m venv .audit
	@.audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit
	@.audit/bin/pip-audit -r constraints.txt --no-deps --disable-pip

documents: env ## regenerate the example documents in office formats in examples/documents
	@echo "==> Making examples/documents"
	@$(BIN)/python examples/make_documents.py examples/documents

$(DEMO_VENV)/.installed: demo-packages.txt constraints.txt
	$(call make-venv,$(DEMO_VENV),--clear --without-pip)
	@# To install a pip of its own takes eight seconds; this Python's can do it, unless it is missing, or older than 22.3.
	@$(PYTHON) -m pip --python $(DEMO_VENV)/bin/python --version >/dev/null 2>&1 || $(DEMO_VENV)/bin/python -m ensurepip >/dev/null
	@echo "==> Installing $$(grep '^torch==' constraints.txt) and the other packages that a load imports, versions as in constraints.txt"
	@$(DEMO_PIP) $(PIP_ARGS) "$$(grep '^torch==' constraints.txt)"
	@$(DEMO_PIP) $(PIP_ARGS) --no-deps -r demo-packages.txt
	@touch $@

demo: $(DEMO_VENV)/.installed ## load this repository's guides and examples, run two searches
	@mkdir -p $(DEMO)
	@echo "==> kb-ingest load README.md ARCHITECTURE.md docs examples --exclude '*.py' --exclude '*.svg' --exclude '*.png' --exclude 'decisions/*' (data folder .demo/data)"
	@$(DEMO_RUN) load $(CURDIR)/README.md $(CURDIR)/ARCHITECTURE.md $(CURDIR)/docs $(CURDIR)/examples --exclude '*.py' --exclude '*.svg' --exclude '*.png' --exclude 'decisions/*'
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
	@rm -rf $(VENV) $(READERS) $(PEERS) $(DEMO_VENV) .audit $(DEMO) $(FAULT_REPORT) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
