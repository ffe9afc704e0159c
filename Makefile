# Everything runs in a virtual environment that this file makes; nothing else has to be installed.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help install demo test test-all test-gpu check check-extras coverage docs dist format bench clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*## /\t/' | expand -t 12

# The mark is newer than what it was made from, so a change of the dependencies installs again.
$(VENV)/.demo: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

install: $(VENV)/.demo ## virtual environment with the package

demo: $(VENV)/.demo ## install, then classify the included clips
	$(BIN)/videoswin classify examples/clips --topk 2

# Two processes of one thread each: threads that wait for one another cost more than they bring.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile

test: $(VENV)/.dev ## the tests, under ten minutes on two cores
	$(PYTEST) -m 'not slow'

test-all: $(VENV)/.dev ## also the slow tests
	$(PYTEST)

test-gpu: $(VENV)/.dev ## the tests that need a CUDA GPU
	$(BIN)/python -m pytest -m gpu tests/test_gpu.py

check: $(VENV)/.dev ## style, types and the direction of imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Needs a package index. gradio is no dependency: many users install it beside this package.
EXTRAS := openvino onnx features evaluate explain shots train hf all docs dev
check-extras: $(VENV)/.demo ## resolve every extra with the constraints, and all of it together with gradio
	for extra in $(EXTRAS); do \
	  $(BIN)/python -m pip install --quiet --dry-run --ignore-installed --constraint constraints.txt ".[$$extra]" || exit 1; \
	  echo "$$extra: resolved"; \
	done
	$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --constraint constraints.txt '.[all]' gradio
	@echo "all with gradio: resolved"

# Needs an index that publishes vulnerabilities, as pypi.org does.
audit: $(VENV)/.dev ## look up known vulnerabilities of the versions in constraints.txt
	$(PYTHON) -m venv build/audit
	build/audit/bin/python -m pip install --quiet pip-audit==2.10.1
	build/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

coverage: $(VENV)/.dev ## the same tests with the branches that they cover; fails below the gate
	$(PYTEST) -m 'not slow' --cov --cov-report=term --cov-report=html

docs: $(VENV)/.dev ## build the documentation into build/docs; warnings are errors
	$(BIN)/python -m sphinx -W --keep-going -q -j 2 -b html -d build/doctrees docs build/docs

dist: $(VENV)/.dev ## build the source distribution and the wheel, and check them
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*

format: $(VENV)/.dev ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## everything that docs/performance.md says, measured again (forty minutes)
	$(BIN)/python -m benchmarks

clean: ## remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
