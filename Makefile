# make demo         generate the example dataset against a local Runware
# make test         run all tests
# make dev          start the Dagster UI with the demo's clips
# make check        lint, types, import contracts and the documentation site
# make docs         build the documentation site into site/
# make bench        measure in a few minutes what benchmarks/README.md measures at length
# make test-versions  run a fast part of the tests with other versions (needs uv)
# make screenshots  take the pictures of the docs again (needs Chromium)
# make schema       write the JSON schema of manifests to docs/schemas
# make models       write the table of models to docs/reference/models.md

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Many tests wait for other processes, so two workers a core are faster than one.
WORKERS ?= $(shell expr 2 \* `getconf _NPROCESSORS_ONLN`)
INSTALLED := $(VENV)/.installed

.PHONY: demo dev test test-versions check docs bench schema models screenshots clean

demo: $(INSTALLED)
	@$(BIN)/sora-dagster demo

dev: $(INSTALLED)
	@$(BIN)/sora-dagster dev

# With bytecode whatever the environment says: hundreds of processes import the package.
test: $(INSTALLED)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# ENVIRONMENTS: some of lowest, newest, python3.12, python3.13. Default: all.
test-versions:
	@$(PYTHON) tests/versions.py $(ENVIRONMENTS)

check: $(INSTALLED)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(MAKE) --no-print-directory docs

docs: $(INSTALLED)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# The short forms. Each prints a table with ratios, measured side by side in one run.
bench: $(INSTALLED)
	@$(BIN)/python -m benchmarks.lost_responses --quick
	@$(BIN)/python -m benchmarks.api_requests --clips 40 --latency 5
	@$(BIN)/python -m benchmarks.receiver --burst --calls 1000 --rounds 2
	@$(BIN)/python -m benchmarks.dataset_ticks --rows 100 1000 --images 0
	@$(BIN)/python -m benchmarks.storage --stores file s3 --sizes 5MB --at-once 1 --rounds 3

schema: $(INSTALLED)
	@$(BIN)/python -m tests.generation.manifest_schema docs/schemas

models: $(INSTALLED)
	@$(BIN)/python -m tests.runware.model_table docs/reference/models.md

screenshots: $(INSTALLED)
	@$(BIN)/python -m tests.screenshots docs/images

$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed and was not found" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "Python 3.11, 3.12 or 3.13 is needed; $(PYTHON) is another version (set PYTHON=…)" >&2; exit 1; }
	@echo "Installing into $(VENV) …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(INSTALLED)

clean:
	rm -rf $(VENV) .sora
