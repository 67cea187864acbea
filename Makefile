# Two commands matter: `make run` and `make test`. Everything they need is installed into .venv from the lock files.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
QUIET  := --disable-pip-version-check -q
PIP    := .venv/bin/python -m pip $(QUIET)
LOCK   := .cache/lock/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -q
NPM    := .venv/bin/npm --silent --no-audit --no-fund --no-update-notifier
# The SDKs that the interoperability tests have as clients, each with an environment of its own.
CLIENTS := tests/interop/clients
SUITE   := tests/conformance
# Tests wait for processes half of their time, so that one process of them more than there are processors is busy.
JOBS   := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
# The other bridges that the benchmark compares with; it installs them when it needs them.
PEERS   := bench/peers

.PHONY: audit run install test lint types unit coverage redis proxies bubblewrap browser bench chaos fuzz fuzz-guided endurance conformance lock clean

run: .venv/.run            ## start the bridge on 127.0.0.1:3000 with the shipped servers.json
	@.venv/bin/mcp-bridge serve --watch $(ARGS)

install: .venv/.run        ## the same without starting it: .venv/bin/mcp-bridge

test: lint types unit      ## install what the tests need, run everything

lint: .venv/.test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: .venv/.test
	.venv/bin/mypy

unit: .venv/.test .cache/sdk1/.ready .cache/sdk2/.ready .cache/node.ready .cache/conformance.ready redis proxies bubblewrap browser
	.venv/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

coverage: ARGS = --cov
coverage: unit             ## the tests again, which take half as long again with it; which lines they reach

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.run: requirements/run.txt pyproject.toml | .venv/bin/python
	$(PIP) install --require-hashes -r requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

.venv/.test: requirements/test.txt .venv/.run
	$(PIP) install --require-hashes -r requirements/test.txt
	@touch $@

.cache/sdk%/.ready: $(CLIENTS)/sdk%.txt
	$(PYTHON) -m venv --clear .cache/sdk$*
	.cache/sdk$*/bin/python -m pip $(QUIET) install --require-hashes -r $<
	@touch $@

.cache/node.ready: $(CLIENTS)/package.json $(CLIENTS)/package-lock.json | .venv/.test
	$(NPM) ci --ignore-scripts --prefix $(CLIENTS)
	@mkdir -p $(@D) && touch $@

.cache/conformance.ready: $(SUITE)/package.json $(SUITE)/package-lock.json | .venv/.test
	$(NPM) ci --ignore-scripts --prefix $(SUITE)
	@mkdir -p $(@D) && touch $@

redis:
	@.ci/redis

proxies:
	@.ci/proxies

bubblewrap:
	@.ci/bubblewrap

browser: | .venv/.test
	@.ci/browser .venv/bin/playwright

lock: | .venv/.test        ## resolve the lock files anew from pyproject.toml, those of the clients and of other bridges
	$(PYTHON) -m venv .cache/lock && .cache/lock/bin/pip install -q 'uv>=0.9,<1'
	$(LOCK) --upgrade pyproject.toml --extra demo --extra oauth --extra otel requirements/build.in -o requirements/run.txt
	$(LOCK) -c requirements/run.txt pyproject.toml --extra demo --extra oauth --extra otel --group test requirements/build.in -o requirements/test.txt
	$(LOCK) --upgrade $(CLIENTS)/sdk1.in -o $(CLIENTS)/sdk1.txt
	$(LOCK) --upgrade $(CLIENTS)/sdk2.in -o $(CLIENTS)/sdk2.txt
	$(LOCK) --upgrade tests/fuzz/guided.in -o tests/fuzz/guided.txt
	$(NPM) update --package-lock-only --omit-lockfile-registry-resolved --prefix $(CLIENTS)
	$(NPM) update --package-lock-only --omit-lockfile-registry-resolved --prefix $(SUITE)
	$(LOCK) --upgrade $(PEERS)/mcp_proxy.in -o $(PEERS)/mcp_proxy.txt
	$(LOCK) --upgrade $(PEERS)/fastmcp.in -o $(PEERS)/fastmcp.txt
	$(NPM) update --package-lock-only --omit-lockfile-registry-resolved --prefix $(PEERS)

audit:                     ## known vulnerabilities in what the lock file names; needs the network
	@PYTHON=$(PYTHON) .ci/audit

clean:
	rm -rf .venv .cache $(CLIENTS)/node_modules $(SUITE)/node_modules dist htmlcov .coverage* .pytest_cache .mypy_cache .ruff_cache

bench: .venv/.test         ## beside aiohttp alone and beside other bridges; writes docs/performance.md (ARGS=--help)
	@.venv/bin/python -m bench.run $(ARGS)

chaos: .venv/.test         ## clients and faults at random on a real bridge (SEED=7 MINUTES=2; a seed decides the same again)
	@.venv/bin/python -m tests.faults.chaos $(if $(SEED),--seed $(SEED)) --minutes $(or $(MINUTES),2)

fuzz: .venv/.test          ## any bytes for whatever reads bytes, for so long (MINUTES=60)
	@FUZZ_MINUTES=$(or $(MINUTES),10) .venv/bin/python -m pytest tests/fuzz -q

fuzz-guided: .venv/.test   ## the same, led by coverage; Linux only (MINUTES=60, ARGS=--keep adds to the kept corpus)
	@$(PIP) install --require-hashes -r tests/fuzz/guided.txt
	@.venv/bin/python -m tests.fuzz.guided --minutes $(or $(MINUTES),60) $(ARGS)

endurance: .venv/.test     ## the numbers of docs/reliability.md, in full: some minutes (ARGS=--help)
	@.venv/bin/python -m tests.faults.endurance $(ARGS)

conformance: .cache/conformance.ready ## the public MCP suite, through the bridge and against the SDK alone
	@.venv/bin/python -m tests.conformance.run $(or $(ARGS),--write)
