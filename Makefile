# Two commands: `make chat` and `make test`. Works with GNU make 3.81 (macOS) and any python >= 3.11 on the PATH.
# The environment's folder has no leading dot, and PYTHONPATH names the clone: docs/decisions/environment.md says why.
# Tests keep bytecode whatever the shell says: without it each process compiles all of them anew, half a minute of each.
VENV   := $(if $(wildcard .venv/bin/python),.venv,venv)
BIN    := $(VENV)/bin
PATHS  := $(CURDIR)
RUN     = PYTHONPATH="$(PATHS)" $(BIN)/python
# a Python built before macOS 26 is told 16 there, and pip takes an mlx without the kernels for an M5's matrices
PIP     = SYSTEM_VERSION_COMPAT=0 $(BIN)/python -m pip install --quiet
PYTEST  = OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(RUN) -m pytest -n auto --dist loadfile --no-loadscope-reorder
USABLE := import platform, sys; sys.exit(sys.version_info < (3, 11) or platform.system() == "Darwin" and platform.machine() != "arm64")
PYTHON := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
            $$p -c '$(USABLE)' 2>/dev/null && echo $$p && break; done)

.PHONY: chat test quick mac soak check metal/blas metal/packed clean
chat: $(VENV)/.installed          ## open the chat; the first time: install, offer a model
	@$(RUN) -m likely.app chat

test: check                       ## everything: lint, format, types, all tests that this machine can run
	$(PYTEST) -m "not soak"
	@[ "$$(uname)" = Darwin ] || $(MAKE) --no-print-directory mac FILES="$(FOURTH)"

quick: check                      ## the everyday part, without slow tests and the real model
	$(PYTEST) -m "not slow and not real and not soak"

FOURTH  = $(shell find tests -name 'test_*.py' | LC_ALL=C sort | awk 'NR % 4 == 1')  # of the files: whole, it is two minutes
mac: PATHS := $(CURDIR)/tests/mac:$(CURDIR)
mac: $(VENV)/.installed-dev       ## the everyday part once more, on a machine whose mlx says that it has Metal
	@$(PYTEST) -m "not slow and not real and not soak" $(FILES)

soak: $(VENV)/.installed-dev      ## hours: what only shows after many rounds
	OPENBLAS_NUM_THREADS=1 $(RUN) -m pytest -m soak --timeout 0

check: $(VENV)/.installed-dev     ## lint, format, types on either system
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --platform darwin --cache-dir .mypy_cache/darwin & other=$$!; \
	$(BIN)/mypy --platform linux; here=$$?; wait $$other && exit $$here

$(VENV)/bin/python:
	@p=$(or $(PYTHON),python3); command -v $$p >/dev/null || { \
	  echo "likely needs python >= 3.11 on the PATH; found none (python.org, brew install python, or uv python install 3.13)" >&2; exit 1; }; \
	  $$p -I app/results/preflight.py
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	$(PIP) --upgrade pip
	$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/bin/python
	$(PIP) --upgrade pip
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.installed

# C without libc for both Linux architectures, by the clang of the ziglang wheel, with its source's SHA-256 inside:
# $(call native,folder,library,flags) makes folder/library-x86_64.so and folder/library-aarch64.so of all in the folder
define native
	for arch in x86_64 aarch64; do \
	  $(BIN)/python -m ziglang cc -target $$arch-linux-gnu -O2 -shared -fPIC -nostdlib -s -fno-sanitize=undefined \
	    -fno-math-errno -fvisibility=hidden $(3) "-DSOURCE_SHA256=\"$$(cat $(1)/*.[ch] | sha256sum | cut -c1-64)\"" \
	    $(1)/*.c -o $(1)/$(2)-$$arch.so || exit 1; done
endef

metal/blas:                       ## rebuild what stands in front of the BLAS
	$(call native,metal/blas,gemv)

# A token's time hangs by 1 to 3 % on where its loops happen to lie in memory.
metal/packed:                     ## rebuild the kernels for packed weights
	$(call native,metal/packed,packed,-falign-loops=32)

clean:
	rm -rf .venv venv .mypy_cache .ruff_cache
