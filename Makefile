# Everything runs in .venv, made from the hash-pinned requirements.lock with plain pip.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.stamp
WORKERS ?= 2

.PHONY: setup demo sandbox tools test soak lint bench lock proto clean

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Dovetail needs Python >= 3.11; set PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m packing.warm
	@touch $(STAMP)

demo: setup
	$(BIN)/dovetail simulate --openb examples/openb --policy all --seeds 42-44 --jobs 2 --out demo-report
lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# A cluster of simulated GPU nodes to play with; `dovetail sandbox down` ends it.
sandbox: setup
	$(BIN)/dovetail sandbox up

# The programs of the tests' cluster, built once per machine. What cannot be had makes its tests skip.
tools: setup
	$(BIN)/python -m sandbox.provision

test: lint tools
	$(BIN)/python -m pytest -m 'not soak' -n $(WORKERS) --dist loadfile -q

soak: setup
	$(BIN)/python -m pytest -m soak -q -s

bench: setup
	$(BIN)/python -m pytest bench -q --benchmark-sort=name

# Regenerates the lock; needs uv. No registry host ends up in the file.
lock:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate -q -o requirements.lock

# Regenerates the Python of the kubelet's gRPC APIs (dra_driver/pb).
proto: setup
	$(BIN)/python proto/generate.py

clean:
	rm -rf .venv demo-report .pytest_cache .mypy_cache .ruff_cache .hypothesis
