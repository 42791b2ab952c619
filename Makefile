# Everything runs in .venv, which is made anew when pyproject.toml changes. PYTHON chooses the interpreter.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
DEV := .venv/.dev

unexport PYTHONDONTWRITEBYTECODE  # else each process that a test starts compiles the package, and each pytest the tests

.PHONY: quickstart test slurm check format bench gpu docs soak torture clean

quickstart: $(READY)  ## install, then train the quickstart preset
	$(BIN)/convnn run quickstart

test: $(DEV)  ## install, then pass the tests
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest --numprocesses 4 --dist worksteal

slurm: $(DEV)  ## jobs on a Slurm cluster of one node, which is started here; skipped without its packages
	$(BIN)/python -m pytest tests/cluster -m slurm -rs

check: $(DEV)  ## lint, formatting, types, import contracts, and the wheel in an environment of its own
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest tests/test_imports.py -m imports
	$(BIN)/python -m scripts.check_wheel

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV)  ## the figures of docs/measured.md, measured here
	$(BIN)/python -m benchmarks

gpu:  ## what a GPU computes and how fast, in 9 minutes: needs PYTHON with torch, installs nothing
	$(PYTHON) -m benchmarks.gpu

docs: $(DEV)  ## the generated parts of docs/, and its pictures by running the app; some minutes
	$(BIN)/python -m scripts.walk
	$(BIN)/python -m scripts.generate_docs

soak: $(DEV)  ## the app for 20 minutes at ten events a second: memory and files flat?
	$(BIN)/python -m benchmarks.soak 20

torture: $(DEV)  ## what takes too long for `make test`: more kills, every case of the kernels and of a hostile state
	$(BIN)/python -m pytest -m torture --timeout 0

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(DEV): $(READY) pyproject.toml
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
