# Everything starts from a bare clone: Python 3.11 to 3.13, make, and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
BENCH_STAMP := $(VENV)/.bench-installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test fast docs bench dist install clean

demo: $(STAMP)  ## fine-tune a real BERT on real sentences, and write a report
	$(BIN)/bertolt demo --overwrite

test: $(STAMP)  ## lint, types and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto --dist worksteal

fast: $(STAMP)  ## the tests that take seconds
	$(BIN)/pytest -n auto --dist worksteal -m "not slow"

docs: $(STAMP)  ## build the pages into site/; a broken link ends it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# BENCH=--quick takes about ten minutes; `make bench BENCH=--list` names what there is.
bench: $(BENCH_STAMP)  ## measure beside the peers, about two hours; results in benchmarks/results
	$(BIN)/python -m benchmarks $(BENCH)

install: $(STAMP)

# torch comes first and pinned, so that its CPU build is taken where the index offers one. It brings a
# setuptools with which an old pip cannot build packages in the old way.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] <= (3, 13) else "Bertolt needs Python 3.11 to 3.13, and this is %d.%d: make PYTHON=python3.12 ..." % sys.version_info[:2])'
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) "$$(grep '^torch==' constraints.txt)"
	$(PIP) --use-pep517 --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

dist: $(STAMP)  ## a source distribution, and a wheel that is built from it
	$(BIN)/python -m tests.environments dist

$(BENCH_STAMP): $(STAMP)
	$(PIP) --constraint constraints.txt --editable '.[dev,bench]'
	touch $(BENCH_STAMP)

clean:
	rm -rf $(VENV) build dist site *.egg-info
