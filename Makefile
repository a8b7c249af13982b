# Nothing but Python >= 3.11, pip and the package registries is needed: every target makes .venv first if it is not there.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
WORKBENCH := $(PY) -m workbench.cli
SERVE ?= 1
PORT ?= 5006
TESTS ?= tests
# Test files are dealt to up to four processes; each computes on one thread, so that they do not stand in each other's way.
PYTEST := $(PY) -m pytest -n logical --maxprocesses 4 --dist loadfile

.PHONY: venv demo test test-slow check bench lab app

venv: $(VENV)/.complete

# The stamp is written last, so that a broken install is taken up again. torch first: with the exact pin pip may use a local build.
$(VENV)/.complete: pyproject.toml constraints.txt app/package-lock.json
	@test -x $(PY) || $(PYTHON) -m venv $(VENV)
	@echo "Installing the workbench into $(VENV) ..."
	@$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all]"
	@$(WORKBENCH) viewer || echo "The volume viewer could not be fetched: the plain three-plane view takes its place."
	@touch $@

demo: venv
	@$(WORKBENCH) cohort phantom cohorts/phantom --subjects 40 --spacing 3 --seed 0 --workers 2
	@$(WORKBENCH) run unet --cohort cohorts/phantom -p size=demo -p experiment=demo
	@$(WORKBENCH) run mts_unet --cohort cohorts/phantom -p size=demo -p experiment=demo
	@$(WORKBENCH) runs
	@if [ "$(SERVE)" != "0" ]; then $(WORKBENCH) app --port $(PORT); fi

test: venv
	@$(PYTEST) -m "not slow" $(TESTS)

test-slow: venv
	@$(PYTEST) -m slow $(TESTS)

check: venv
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/lint-imports --config .importlinter-acyclic.ini

bench: venv
	@$(PY) -m pytest tests/benchmarks --benchmark-enable --benchmark-only -m "slow or not slow"

lab: venv
	@$(VENV)/bin/jupyter lab --ip 127.0.0.1 notebooks

app: venv
	@$(WORKBENCH) app --port $(PORT)
