# A fresh machine needs Python 3.11+, make and Go; everything else is fetched by pip, by Go modules,
# by Maven, and by apt for what APT_PACKAGES names. `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

# Settings; give them on the command line, as in `make test PYTHON=python3.13`.
PYTHON ?= python3
VENV ?= .venv
APT_PACKAGES ?= default-jdk-headless libfaketime libzookeeper-java mariadb-server maven openssl \
    pgbouncer postgresql redis-server
# Tests wait more than they compute, so there are more workers than two processors.
PYTEST_ARGS ?= --numprocesses 4 --dist loadfile
FAULTS_ARGS ?=
CLUSTER_ARGS ?=
BENCH_ARGS ?=
HISTORIES ?= 100000
SEED ?=

# The tests start thousands of interpreters; without byte code each compiles all of it anew.
unexport PYTHONDONTWRITEBYTECODE

BIN := $(VENV)/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
SIMULATOR = $(BIN)/python -m incumbent.testing.simulator --processes $$(nproc) \
    --histories $(HISTORIES) $(if $(SEED),--seed $(SEED))
CHECKED := src tests $(wildcard benchmarks)

# $(call stage,NAME,COMMAND): runs a command and prints its name, its outcome and its time.
define stage
@started_s=$$(date +%s); \
printf '== %s\n' '$(1)'; \
$(2) && outcome=0 || outcome=$$?; \
if [ $$outcome -eq 0 ]; then word=ok; else word="FAILED ($$outcome)"; fi; \
printf '== %s: %s, %s s\n' '$(1)' "$$word" $$(($$(date +%s) - started_s)); \
exit $$outcome
endef

.PHONY: help
help: ## list the targets and the settings
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile
	@echo
	@echo 'Settings: PYTHON VENV APT_PACKAGES PYTEST_ARGS CLUSTER_ARGS FAULTS_ARGS BENCH_ARGS'
	@echo '          HISTORIES SEED'

# ---- the environment

.PHONY: python
python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; v >= (3, 11) or sys.exit( \
	    "incumbent needs Python 3.11 or newer, and $(PYTHON) is %d.%d: set PYTHON=" % v)'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	    echo '$(PYTHON) cannot make environments. On Debian: apt-get install python3-venv' >&2; \
	    exit 1; }

.PHONY: apt
apt:
ifneq ($(strip $(APT_PACKAGES)),)
	@missing=(); \
	for package in $(APT_PACKAGES); do \
	    dpkg -s "$$package" 2>/dev/null | grep -x 'Status: install ok installed' >/dev/null \
	        || missing+=("$$package"); \
	done; \
	if [ $${#missing[@]} -eq 0 ]; then exit 0; fi; \
	if [ "$$(id -u)" -ne 0 ]; then \
	    echo "Missing packages. As root: apt-get install $${missing[*]}" >&2; exit 1; \
	fi; \
	apt-get update -qq; \
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}"
endif

# Two stamps: the least that the demo needs is there in seconds, the rest comes with `make venv`.
$(VENV)/.demo: requirements/demo.txt requirements/dev.txt pyproject.toml | python
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(PIP_INSTALL) -r requirements/demo.txt
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.demo
	@$(PIP_INSTALL) -r requirements/dev.txt
	@touch $@

.PHONY: venv
venv: $(VENV)/.dev ## make or refresh .venv with the pinned tools

.PHONY: pins
pins: python ## choose new versions: requirements/*.in into *.txt
	@for name in dev bench celery; do \
	    folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; \
	    $(PYTHON) -m venv "$$folder"; \
	    "$$folder/bin/python" -m pip install --quiet --disable-pip-version-check \
	        -r requirements/$$name.in; \
	    { echo "# Written by \`make pins\` from $$name.in. Do not edit."; \
	      "$$folder/bin/python" -m pip freeze; } > "$$folder/pins.txt"; \
	    cp "$$folder/pins.txt" requirements/$$name.txt; \
	    rm -rf "$$folder"; \
	done

# ---- to look at

.PHONY: demo
demo: $(VENV)/.demo ## see a takeover on this machine, in well under a minute
	@$(BIN)/incumbent demo

.PHONY: cluster-demo
cluster-demo: $(VENV)/.dev ## what a partition makes of one active process, on two real nodes
	@$(BIN)/python -m tests.cluster $(CLUSTER_ARGS)

# ---- checks

.PHONY: test
test: apt ## everything that must pass before a commit
	$(call stage,venv,$(MAKE) venv)
	$(call stage,servers,$(BIN)/python -m tests.servers.build)
	@$(MAKE) lint
	@echo '== pytest'
	@$(BIN)/python -m tests.whole $(PYTEST_ARGS)

.PHONY: conformance
conformance: apt venv ## the conformance suite over all stores, as a table of stores and cases
	$(call stage,servers,$(BIN)/python -m tests.servers.build)
	$(call stage,conformance,$(BIN)/python -m tests.stores.table)

.PHONY: lint
lint: $(VENV)/.dev ## style, types and layers
	$(call stage,ruff check,$(BIN)/ruff check $(CHECKED))
	$(call stage,ruff format,$(BIN)/ruff format --check $(CHECKED))
	$(call stage,mypy,$(BIN)/mypy $(CHECKED))
	$(call stage,lint-imports,$(BIN)/lint-imports)

.PHONY: linters
linters: $(VENV)/.dev ## linters of others on manifests: kube-score, and what is on the PATH
	$(call stage,linters,$(BIN)/python -m tests.manifests.linters)

.PHONY: planted
planted: $(VENV)/.dev ## every mistake that was planted, and whether its test finds it
	$(call stage,servers,$(BIN)/python -m tests.servers.build)
	$(call stage,planted,$(BIN)/python -m tests.simulator.hunt --all)

.PHONY: faults
faults: planted ## long: faults against real servers, then HISTORIES simulated ones a store
	$(call stage,faults,$(BIN)/python -m tests.faults $(FAULTS_ARGS))
	$(call stage,work,$(BIN)/python -m tests.work --all)
	$(call stage,migrations,$(BIN)/python -m tests.faults.migrating)
	$(call stage,partners,$(BIN)/python -m tests.partners)
	$(call stage,cluster,$(BIN)/python -m tests.cluster --all)
	$(call stage,probes,$(BIN)/python -m tests.cluster.probed)
	$(call stage,linters,$(BIN)/python -m tests.manifests.linters)
	$(call stage,consent,$(BIN)/python -m tests.cluster.consent)
	$(call stage,simulator: memory,$(SIMULATOR) --store memory)
	$(call stage,simulator: beside,$(SIMULATOR) --store beside)
	$(call stage,simulator: joined,$(SIMULATOR) --store joined)
	$(call stage,simulator: kubernetes,$(SIMULATOR) --store kubernetes)
	$(call stage,simulator: kubernetes-session,$(SIMULATOR) --store kubernetes-session)
	$(call stage,simulator: kv,$(SIMULATOR) --store kv)
	$(call stage,simulator: queue,$(SIMULATOR) --store queue)
	$(call stage,simulator: sql,$(SIMULATOR) --store sql)
	$(call stage,simulator: sqlite,$(SIMULATOR) --store sqlite)

.PHONY: bench
bench: $(VENV)/.dev ## measure
	$(call stage,servers,$(BIN)/python -m tests.servers.build)
	$(call stage,benchmarks,$(BIN)/python -m benchmarks $(BENCH_ARGS))

.PHONY: docs-check
docs-check: $(VENV)/.dev ## links and code in the documentation, and the change fragments
	$(call stage,documents,$(BIN)/python -m pytest -q tests/style/test_documents.py)
	$(call stage,changelog,$(BIN)/towncrier build --draft --version next --date today)

.PHONY: clean
clean: ## remove .venv, caches and build results (built servers stay in the user's cache)
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find src tests $(wildcard benchmarks) -name __pycache__ -type d -prune -exec rm -rf {} +
