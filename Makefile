# The two commands of the README are `make demo` and `make test`. Both need Python 3.11 or newer, git and make, nothing else.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --quiet --disable-pip-version-check

# A virtual environment knows its own path: one that was copied or moved along with the checkout is made anew.
ifneq ($(shell cat $(VENV)/.made 2>/dev/null),$(CURDIR))
$(VENV)/.made: FORCE
endif

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check slow clean FORCE

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.demo ## Deliver 1,000 webhooks, kill the worker half-way, count what was lost
	@$(BIN)/callsheet demo

test: $(VENV)/.dev ## Run the tests
	@$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

check: $(VENV)/.dev ## Formatting, lint, types, and the rules of the source tree
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy -p callsheet
	@$(BIN)/mypy tests/typing
	@$(BIN)/mypy examples
	@$(BIN)/python -m pytest -q tests/test_tidy.py

slow: $(VENV)/.dev ## Run the proofs that take minutes
	@$(BIN)/python -m pytest -m slow || { [ $$? -eq 5 ] && echo "there are no such tests yet"; }

clean: ## Remove the virtual environment, caches and built files
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so an install that was interrupted is simply done again.

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "callsheet needs Python 3.11 or newer, and '$(PYTHON)' is not: try make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments: install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@$(PYTHON) -m venv $(if $(wildcard $@),--clear) $(VENV)
	@printf '%s' '$(CURDIR)' > $@

$(VENV)/.demo: pyproject.toml $(VENV)/.made
	@echo "installing callsheet into $(VENV) (once)"
	@$(PIP) install --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml $(VENV)/.made
	@echo "installing callsheet and its development tools into $(VENV) (once)"
	@$(PIP) install --editable '.[dev]'
	@touch $@ $(VENV)/.demo
