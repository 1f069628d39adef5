# make help lists the targets.
PYTHON ?= python3
PYTHONS ?= python3.11 python3.12 python3.13
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
UV_INSTALL := pip install -q --python $(BIN)/python --compile-bytecode -c constraints.txt -e '.[dev]'
export MLFLOW_DISABLE_TELEMETRY = true

.PHONY: help setup test matrix test-engines mutants lint sweep report ui benchmark lock sbom audit clean-cache clean
.DEFAULT_GOAL := help

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.done  ## a virtual environment with all that is needed, in .venv

$(VENV)/.done: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("expected Python 3.11 or newer, got " + sys.version.split()[0] + "; try make PYTHON=python3.11")'
# uv installs in a third of the time that pip takes; pip where uv cannot, as behind a mirror of its own.
	@if command -v uv >/dev/null; then \
	  uv venv -q --clear --python "$(PYTHON)" $(VENV) && uv $(UV_INSTALL); \
	else \
	  $(PYTHON) -m venv --clear $(VENV) && \
	  { $(BIN)/python -m pip install --disable-pip-version-check -q uv && $(BIN)/uv $(UV_INSTALL); } || \
	  $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'; \
	fi
	@touch $@

test: setup lint  ## set-up, lint, types, tests
	$(BIN)/python -m pytest -n auto --dist loadfile

matrix:  ## make test with each of PYTHONS, each in an environment of its own
	for python in $(PYTHONS); do $(MAKE) test PYTHON=$$python VENV=$(VENV)-$$(basename $$python) || exit 1; done

test-engines: setup  ## sweeps on Slurm and Ray and into MLflow servers, those that are here
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev,slurm,ray]' "psycopg[binary]"
	@if command -v slurmctld >/dev/null && ! sinfo >/dev/null 2>&1; then bash ../shared/slurm/up.sh; fi
	PATH=$(abspath ../shared/slurm):$$PATH $(BIN)/python -m pytest -m engines -s -rs

mutants: setup  ## would the tests notice one wrong edit? hours; docs/mutants.md has the last answer
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt cosmic-ray pytest-cov
	PATH=$(abspath $(BIN)):$$PATH $(BIN)/python tests/mutants.py run .mutants

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

sweep: setup  ## set-up, data and BadNet, the six runs, Tables 1-2 and Figures 1-2
	$(BIN)/python -m experiments.run -m order=asc,desc threshold=2,4,10 $(ARGS)
	$(BIN)/python -m experiments.report

report: setup  ## tables and figures of the newest sweep
	$(BIN)/python -m experiments.report $(ARGS)

benchmark: setup  ## the walk against the lab loop and one plain pass
	$(BIN)/python -m experiments.benchmark $(ARGS)

ui: setup  ## the runs of the newest sweep in MLflow's pages, whose address is said
	$(BIN)/python -m experiments.ui $(ARGS)

lock: setup  ## requirements.txt: the versions of constraints.txt with hashes, for pip install --require-hashes
	$(BIN)/python -m pip install --disable-pip-version-check -q uv
	$(BIN)/uv pip compile -q pyproject.toml --extra dev -c constraints.txt --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header -o requirements.txt

sbom: setup  ## sbom.json: what is installed in .venv, as CycloneDX
	$(BIN)/python -m pip install --disable-pip-version-check -q cyclonedx-bom
	$(BIN)/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible -o sbom.json

audit: setup  ## known vulnerabilities of what is installed; needs a network
	$(BIN)/python -m pip install --disable-pip-version-check -q pip-audit
	$(BIN)/pip-audit --skip-editable

clean-cache:  ## remove kept activations and walks
	@du -sh .cache 2>/dev/null || true
	rm -rf .cache

clean: clean-cache  ## remove all that was made here, tracked runs excepted
	rm -rf $(VENV) $(VENV)-* .mutants data outputs multirun report check screen screen.log build *.egg-info
