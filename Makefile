# Every target makes .venv from requirements.lock first, when it is missing or older than the lock.
# ARGS is passed on:  make demo ARGS='--seed 7'    make test ARGS='-k fold'
PYTHON ?= python3
ARGS ?=

BIN := .venv/bin
STAMP := .venv/.from-lock
PEERS := .venv/.peers-from-lock
SECONDS ?= 60
# tdigest's dependencies come as source only; they are built with these, at the versions of the lock.
BUILD_TOOLS := cffi|cython|packaging|pycparser|setuptools|wheel

.PHONY: demo test check bench fuzz chaos calibrate clean .venv

demo: $(STAMP)
	$(BIN)/qma demo $(ARGS)

# Two processes, each with files of its own (tests/conftest.py). Tests start many interpreters: these may keep bytecode.
test: check
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 2 $(ARGS)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

bench: $(PEERS)
	$(BIN)/python -m tests.bench $(ARGS)

# SECONDS says how long:  make fuzz SECONDS=600
fuzz: $(STAMP)
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) $(ARGS)

chaos: $(STAMP)
	$(BIN)/python -m tests.chaos $(ARGS)

# ARGS='--runs 3600 --seed 11' for more; exits 1 where the intervals do not hold what they say.
calibrate: $(STAMP)
	$(BIN)/python -m tests.calibrate $(ARGS)

.venv: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@sh .ci/preflight.sh '$(PYTHON)'
	@echo 'making .venv from requirements.lock: a minute or two, without a word' >&2
	rm -rf .venv
	$(PYTHON) -m venv .venv
	awk '/^[a-z]/ { keep = /^($(BUILD_TOOLS))==/ } keep' requirements.lock > .venv/build-tools.lock
	$(BIN)/python -m pip install --quiet --require-hashes -r .venv/build-tools.lock
	$(BIN)/python -m pip install --quiet --require-hashes --no-build-isolation -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

# What the benchmark measures against; nothing else needs it.
$(PEERS): $(STAMP) requirements-bench.lock
	@echo 'installing the peers of the benchmark from requirements-bench.lock' >&2
	$(BIN)/python -m pip install --quiet --require-hashes --no-deps -r requirements-bench.lock
	@touch $@

# Leaves the cache of downloaded jars alone: it is outside the repository and checked by hash at every use.
clean:
	rm -rf .venv .local build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find stream tests -name __pycache__ -type d -prune -exec rm -rf {} +
