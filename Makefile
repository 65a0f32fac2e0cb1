# make demo    solve the quick built-in problems into build/demo/
# make sheets  solve all four problem sheets, whole, into build/sheets/ (a quarter of an hour)
# make test    everything a change must pass: lint, format, types, tests
# make nightly the same and the slow tests
# make bench   the side-by-side measurements
# make clean   remove what was built (.venv stays; `make clean-all` takes it too)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo
QUICK := ctu-vir-3/sine-neuron epfl-ml-12/linear-regression epfl-ml-12/nn-package uva-dl-1/relu-tanh-net
SHEETS := build/sheets
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev

.DELETE_ON_ERROR:
.PHONY: demo sheets test lint nightly bench clean clean-all

demo: $(RUN)
	@mkdir -p $(DEMO)
	@set -eu; for id in $(QUICK); do \
	  mkdir -p "$(DEMO)/$$(dirname "$$id")"; \
	  $(BIN)/backproof solve "$$id" --out "$(DEMO)/$$id.html" --out "$(DEMO)/$$id.json" > /dev/null; \
	done
	@echo "Open the .html files above in a browser."

sheets: $(RUN)
	@mkdir -p $(SHEETS)
	@set -eu; pdf=; if command -v pdflatex > /dev/null; then pdf=yes; fi; \
	for sheet in uva-dl-1 ctu-vir-3 epfl-ml-12 epfl-ml-9; do \
	  $(BIN)/backproof solve "$$sheet" --out "$(SHEETS)/$$sheet.html" --out "$(SHEETS)/$$sheet.json" \
	    $${pdf:+--out "$(SHEETS)/$$sheet.pdf"} > /dev/null; \
	done
	@echo "Open the .html files above in a browser."

test: lint
	$(BIN)/python -m pytest -n 2

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

nightly: test
	$(BIN)/python -m pytest -n 2 -m nightly

bench: $(DEV)
	@set -eu; scripts="$(sort $(filter-out bench/_%,$(wildcard bench/*.py)))"; \
	if [ -z "$$scripts" ]; then echo "no scripts in bench/"; fi; \
	for script in $$scripts; do echo "== $$script"; $(BIN)/python "$$script"; done

clean:
	rm -rf build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find $(wildcard src tests bench) -name __pycache__ -type d -prune -exec rm -rf {} +

clean-all: clean
	rm -rf $(VENV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Backproof needs Python 3.11 or later; name one with: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Stamp files, so that nothing is installed twice. The source is installed in place: editing it needs no install.
$(RUN): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing Backproof into $(VENV) (torch is large: a few minutes the first time)"
	$(PIP) -e .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing Backproof and its test tools into $(VENV)"
	$(PIP) -e '.[dev]'
	@touch $(RUN) $@
