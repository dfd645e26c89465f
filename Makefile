# make book | test | results | status | bench | test-bench. Each creates .venv from the lock when it is missing; where
# conda's environment of environment.yml is active, that is used instead.
SHELL   := /bin/bash
PYTHON  ?= python3
ifeq ($(CONDA_DEFAULT_ENV),cifarlab)
BIN     := $(CONDA_PREFIX)/bin
READY   :=
else
BIN     := .venv/bin
READY   := .venv/ready
endif
# STUDY (one or more) and PRESET narrow `make results` and `make status`; LEVEL (one level of a study), SEEDS (the first
# so many), BUDGET (2h, 45m), WORKERS and DEVICE narrow or steer `make results`.
SELECT  := $(STUDY) $(if $(PRESET),--preset $(PRESET))
STEER   := $(if $(BUDGET),--budget $(BUDGET)) $(if $(WORKERS),--workers $(WORKERS)) $(if $(DEVICE),--device $(DEVICE)) $(if $(SEEDS),--seeds $(SEEDS)) $(if $(LEVEL),--level "$$LEVEL")

# By way of the environment: a level's name may have spaces and quotes in it.
export LEVEL

.PHONY: book test results status reproduce bench test-bench lint lock clean

book: $(READY)
	$(BIN)/jupyter-book build . -W --keep-going
	@echo "Open _build/html/index.html"

test: $(READY)
	$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

results: $(READY)
	$(BIN)/python -m labbook results $(SELECT) $(STEER)

status: $(READY)
	$(BIN)/python -m labbook status $(SELECT)

# N committed runs, chosen by chance, are trained again and compared.
reproduce: $(READY)
	$(BIN)/python -m labbook reproduce $(if $(N),--count $(N))

bench: $(READY)
	$(BIN)/python -m benchmarks $(NAME) $(if $(FOLDER),--folder $(FOLDER))

test-bench: $(READY)
	$(BIN)/python -m pytest benchmarks/tests

lint: $(READY)
	$(BIN)/ruff check .

# Rewrites requirements.txt from pyproject.toml, for Python 3.11 and later on every platform.
lock: $(READY)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --extra test pyproject.toml -o requirements.txt

clean:
	rm -rf _build

.venv/ready: requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Name another with: make PYTHON=python3.12")'
	.venv/bin/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv
	.venv/bin/python -m pip install --quiet --requirement requirements.txt
	.venv/bin/python -m pip install --quiet --no-deps --editable .
	touch $@
