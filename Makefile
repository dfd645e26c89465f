# make book | test | results | status | bench. The environment has two parts. What only reads (book, status) gets the
# small one, requirements.txt; what trains or tests adds the rest of requirements-train.txt when it is first needed.
# Where conda's environment of environment.yml is active, that is used instead of .venv.
SHELL   := /bin/bash
PYTHON  ?= python3
ifeq ($(CONDA_DEFAULT_ENV),cifarlab)
BIN     := $(CONDA_PREFIX)/bin
READY   :=
TRAIN   := conda-train
else
BIN     := .venv/bin
READY   := .venv/ready
TRAIN   := .venv/train
endif
# STUDY (one or more) and PRESET narrow `make results` and `make status`; LEVEL (one level of a study), SEEDS (the first
# so many), BUDGET (2h, 45m), WORKERS and DEVICE narrow or steer `make results`.
SELECT  := $(STUDY) $(if $(PRESET),--preset $(PRESET))
STEER   := $(if $(BUDGET),--budget $(BUDGET)) $(if $(WORKERS),--workers $(WORKERS)) $(if $(DEVICE),--device $(DEVICE)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(LEVEL),--level "$$LEVEL")

# Each page is run by a process of its own, which should not compile all libraries anew.
unexport PYTHONDONTWRITEBYTECODE

# By way of the environment: a level's name may have spaces and quotes in it.
export LEVEL

.PHONY: book train conda-train test results status reproduce bench test-bench lint lock clean

book: $(READY)
	$(BIN)/jupyter-book build . -W --keep-going
	@echo "Open _build/html/index.html"

test: $(TRAIN)
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

results: $(TRAIN)
	$(BIN)/python -m labbook results $(SELECT) $(STEER)

status: $(READY)
	$(BIN)/python -m labbook status $(SELECT)

# N committed runs, chosen by chance, are trained again and compared.
reproduce: $(TRAIN)
	$(BIN)/python -m labbook reproduce $(if $(N),--count $(N))

bench: $(TRAIN)
	$(BIN)/python -m benchmarks $(BENCH) $(if $(FOLDER),--folder $(FOLDER))

test-bench: $(TRAIN)
	$(BIN)/python -m pytest benchmarks/tests

lint: $(TRAIN)
	$(BIN)/ruff check .

# Rewrites both locks from pyproject.toml, for Python 3.11 and later on every platform; the second has the first's versions.
COMPILE := uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url
lock: $(READY)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/$(COMPILE) pyproject.toml -o requirements.txt
	$(BIN)/$(COMPILE) --extra train --extra test -c requirements.txt pyproject.toml -o requirements-train.txt

clean:
	rm -rf _build

train: $(TRAIN)

# uv installs in a tenth of pip's time; where it is not to be had, pip does.
.venv/ready: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Name another with: make PYTHON=python3.12")'
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	@echo "Installing what reading and building the book need into .venv (about half a gigabyte)"
	@.venv/bin/python -m pip install --quiet uv && .venv/bin/uv pip install --quiet --python .venv/bin/python --requirement requirements.txt --editable . \
	  || .venv/bin/python -m pip install --quiet --requirement requirements.txt --editable .
	@touch $@

.venv/train: .venv/ready requirements-train.txt
	@echo "Installing what training and testing need into .venv: PyTorch and its CUDA libraries (about 5.5 GB; some minutes)"
	@.venv/bin/python -m pip install --quiet --requirement requirements-train.txt
	@touch $@

conda-train:
	@$(BIN)/python -c 'import torch, pytest' 2>/dev/null || { \
	  echo "Installing what training and testing need into conda's environment (about 5.5 GB; some minutes)"; \
	  $(BIN)/python -m pip install --quiet --requirement requirements-train.txt; }
