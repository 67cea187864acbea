# Two commands matter: `make run` and `make test`. Everything they need is installed into .venv from the lock files.
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || echo python3)
PIP    := .venv/bin/python -m pip --disable-pip-version-check -q

.PHONY: run test lint types unit lock clean

run: .venv/.run            ## start the bridge on 127.0.0.1:3000 with the shipped servers.json
	@.venv/bin/mcp-bridge serve $(ARGS)

test: lint types unit      ## install what the tests need, run everything

lint: .venv/.test
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: .venv/.test
	.venv/bin/mypy

unit: .venv/.test
	.venv/bin/python -m pytest $(ARGS)

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.run: requirements/run.txt pyproject.toml | .venv/bin/python
	$(PIP) install --require-hashes -r requirements/run.txt
	$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

.venv/.test: requirements/test.txt .venv/.run
	$(PIP) install --require-hashes -r requirements/test.txt
	@touch $@

lock:                      ## resolve the lock files anew from pyproject.toml
	$(PYTHON) -m venv .cache/lock && .cache/lock/bin/pip install -q 'uv>=0.9,<1'
	.cache/lock/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -q \
	  --upgrade pyproject.toml --extra demo requirements/build.in -o requirements/run.txt
	.cache/lock/bin/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header -q \
	  -c requirements/run.txt pyproject.toml --extra demo --group test requirements/build.in -o requirements/test.txt

clean:
	rm -rf .venv .cache dist htmlcov .coverage* .pytest_cache .mypy_cache .ruff_cache
