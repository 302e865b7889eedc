# Two commands matter: `make demo` shows the whole line on synthetic data, `make test` proves it.
# Needed on the machine: Python 3.11, make, and a package index that pip is set up for.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(CURDIR)/$(VENV)/bin
# XLA_VENV=/somewhere/xla keeps the environment of the TPU lane there, one for each content of its lock file.
ifdef XLA_VENV
XLA_DIR  := $(abspath $(XLA_VENV))-$(shell sha256sum requirements-xla.lock | cut -c1-12)
else
XLA_DIR  := .venv-xla
XLA_MADE_OF := pyproject.toml requirements-xla.lock
endif
XLA_BIN  := $(abspath $(XLA_DIR))/bin

# One BLAS thread a process: the suite runs one process a core, and two threads each were measured up to 19x slower.
SINGLE_THREADED := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
# A test that hangs fails by name; the longest takes three and a half minutes on two cores.
PYTEST := $(SINGLE_THREADED) $(BIN)/python -m pytest -n 2 --dist worksteal --timeout 600

.PHONY: help venv demo tools test-fast test test-long xla test-xla tpu-compile lint bench docs clean
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

venv: $(VENV)/.installed  ## create .venv and install octprobe with everything that demo, tests and lint need

$(VENV)/.installed: pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || \
		{ echo "error: octprobe needs Python 3.11, got $$($(PYTHON) --version); call make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[dev]'
	@touch $@

demo: venv  ## phantom bucket -> S3 server -> embeddings -> probes -> report, in ./demo
	@PATH="$(BIN):$$PATH" bash docs/demo.sh

tools:  ## Debian's chromium and dicom3tools, for the tests that open pages and check DICOM (needs root; else they are skipped)
	@command -v chromium >/dev/null && command -v dciodvfy >/dev/null || \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium dicom3tools >/dev/null; }

test-fast: venv  ## under two minutes, for developing: no slow, S3 or browser tests, nor the files of tests/heavy.txt
	$(PYTEST) -q --fast -m "not slow and not long and not s3 and not xla"

test: venv  ## the suite: everything but test-long and the TPU lane
	$(PYTEST) -m "not long"

test-long: venv  ## the longer simulations, trainings and benchmarks
	$(PYTEST) -m long

# torch_xla 2.9.0 needs exactly torch 2.9.1, so the TPU lane is an environment of its own.
$(XLA_DIR)/.installed: $(XLA_MADE_OF)
	$(PYTHON) -m venv $(XLA_DIR)
	$(XLA_BIN)/python -m pip install --quiet --constraint requirements-xla.lock --editable . \
		torch==2.9.1 torch_xla==2.9.0 pytest beartype
	@touch $@

xla: $(XLA_DIR)/.installed
	@grep -qs 'file://$(CURDIR)"' $(XLA_DIR)/lib/python*/site-packages/octprobe-*.dist-info/direct_url.json || \
		$(XLA_BIN)/python -m pip install --quiet --no-deps --editable .

test-xla: xla  ## the TPU back end on XLA's CPU device (an environment of 8 GB, made in about 4 minutes)
	PJRT_DEVICE=CPU $(SINGLE_THREADED) $(XLA_BIN)/python -m pytest -m xla tests/extract/test_xla.py tests/finetune/test_finetune_xla.py
	OMP_NUM_THREADS=1 $(XLA_BIN)/python tests/benchmarks/tpu_compile.py

tpu-compile: xla  ## add the TPU compiler, and ask it whether encoder and training step fit a chip (no TPU)
	$(XLA_BIN)/python -m pip install --quiet --constraint requirements-xla.lock jax jaxlib libtpu
	OMP_NUM_THREADS=1 $(XLA_BIN)/python tests/benchmarks/tpu_compile.py

lint: venv  ## ruff, mypy --strict, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: venv  ## every benchmark, side by side with its peer; writes tests/benchmarks/results/
	$(BIN)/python -m pip install --quiet --constraint requirements.lock --editable '.[dev,bench]'
	$(BIN)/python tests/benchmarks/run.py

docs: venv  ## the pages of docs/ as a site, in ./site: warnings are errors, nothing is fetched
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "open $(CURDIR)/site/index.html (its search needs a server: $(BIN)/python -m http.server -d site)"

clean:  ## remove the environment and the demo
	rm -rf $(VENV) .venv-xla demo site .mypy_cache .ruff_cache .import_linter_cache .hypothesis
