# Thin: finds a Python, makes .venv from the hashed lock, and calls it.
.DEFAULT_GOAL := help
unexport PYTHONDONTWRITEBYTECODE
export OMP_NUM_THREADS ?= 1
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
# One more than the cores of a small machine: tests of Slurm and of Dagster's services wait most of the time.
SIDE_BY_SIDE := -n 3 --no-loadscope-reorder

# What `make demo` and `make dev` look at; make demo SEED=2 DETECTORS=25,31 SKY=210.5,-12.3
SEED ?= 1
DETECTORS ?=
SKY ?=
DEMO ?= demo
ONLY ?=

.PHONY: help install demo dev test test-full lint bench lock clean

help:
	@echo "make demo       the sample survey, from its proposal id to difference images, with a table against the truth"
	@echo "make dev        the Dagster UI on that survey"
	@echo "make test       install and run the tests (make test-full: all of them)"
	@echo "make bench      figures as JSON lines; make bench ONLY=demo"
	@echo "make lint       ruff"

install: $(READY)

$(READY): requirements.lock pyproject.toml
	@python=$$(.ci/find-python) && echo "using $$python" && rm -rf $(VENV) && "$$python" -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-compile --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@# Some packages ship templates that are no Python: what does not compile is compiled, or fails, when imported.
	-@$(PY) -m compileall -q -j 0 $(VENV)/lib >/dev/null
	@touch $(READY)

demo: $(READY)
	$(PY) benchmarks/demo.py --directory $(DEMO) --seed $(SEED) $(if $(DETECTORS),--detectors $(DETECTORS)) $(if $(SKY),--sky=$(SKY))

dev: $(READY)
	$(PY) benchmarks/dev.py --directory $(DEMO)

# The Science Pipelines' stand-ins become part of the process that imports them, so their tests have one of their own.
test: $(READY)
	$(PY) -m pytest tests --ignore tests/pipelines $(SIDE_BY_SIDE)
	$(PY) -m pytest tests/pipelines

test-full: $(READY)
	$(PY) -m pytest tests --full --ignore tests/pipelines $(SIDE_BY_SIDE)
	$(PY) -m pytest tests/pipelines --full

bench: $(READY)
	@$(PY) -m benchmarks $(if $(ONLY),--only $(ONLY))

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# Needs uv; writes hashes, and no index address.
lock:
	uv pip compile pyproject.toml --extra embedded --extra dev --universal --python-version 3.12 \
	    --generate-hashes --no-strip-extras --no-annotate --no-header --quiet -o requirements.lock

clean:
	rm -rf $(VENV) build dist *.egg-info $(DEMO)
