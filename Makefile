# Everything starts from a bare clone: Python 3.11 or later, make, and a package index.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test install fast clean

demo: $(STAMP)  ## fine-tune a real BERT on real sentences, and write a report
	$(BIN)/bertolt demo --overwrite

test: $(STAMP)  ## lint, types and all tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

fast: $(STAMP)  ## the tests that take seconds
	$(BIN)/pytest -m "not slow"

install: $(STAMP)

# torch comes first and pinned, so that its CPU build is taken where the index offers one.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) build dist *.egg-info
