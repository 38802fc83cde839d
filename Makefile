# make demo         generate the example dataset against a local Runware
# make test         run all tests
# make dev          start the Dagster UI with the demo's clips
# make check        lint, types, import contracts and the documentation site
# make docs         build the documentation site into site/
# make screenshots  take the README's pictures again (needs Chromium)
# make schema       write the JSON schema of manifests to docs/schemas
# make models       write the table of models to docs/reference/models.md

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Many tests wait for other processes, so two workers a core are faster than one.
WORKERS ?= $(shell expr 2 \* `getconf _NPROCESSORS_ONLN`)
INSTALLED := $(VENV)/.installed

.PHONY: demo dev test check docs schema models screenshots clean

demo: $(INSTALLED)
	@$(BIN)/sora-dagster demo

dev: $(INSTALLED)
	@$(BIN)/sora-dagster dev

# With bytecode whatever the environment says: hundreds of processes import the package.
test: $(INSTALLED)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

check: $(INSTALLED)
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(MAKE) --no-print-directory docs

docs: $(INSTALLED)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

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
