# Two commands do everything, set-up included: `make demo` and `make test`.

VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
UV := $(shell command -v uv 2>/dev/null)
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; done)

ifdef UV
install = $(UV) pip install --quiet --python $(BIN)/python
bytecode = --compile-bytecode
else
install = $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

# The tests whose results depend on versions of libraries: numbers, tables, files, flags, the API and its databases. They
# leave out what depends on the system instead: browsers, killed processes, swaps under load, forged files, pages of code.
versions := tests/data tests/kernels tests/models tests/evaluation tests/test_imports.py \
	$(addprefix tests/app/test_,cli.py defaults.py feedback.py protocol.py recommend_command.py replies.py search.py \
	service.py service_feedback.py service_properties.py service_schema.py store.py update_command.py) \
	--ignore tests/models/test_forging.py --ignore tests/models/test_threads.py --ignore tests/evaluation/test_search_pages.py \
	--ignore tests/evaluation/test_notebook.py

# The tests run in two processes more than there are cores (tests/conftest.py), because they often wait for servers, browsers
# and programs that they start; four at most, since each takes about a gigabyte of memory. A process that is done takes over
# tests that wait in another one, so that no core is idle at the end. Until then the tests of a file stay together.
pytest = -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

.PHONY: demo test test-all test-lowest lint bench clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed  ## train, evaluate and explain a model on MovieLens 100K
	$(BIN)/hatrix run ml-100k --out runs/demo

test: $(VENV)/.installed-dev  ## run the tests; ARGS="tests/data -x" narrows them, ARGS="-n 0" uses one process
	$(BIN)/python $(pytest) -m "not campaign" $(ARGS)

test-all: $(VENV)/.installed-dev  ## run the tests and the long campaigns; ARGS="-m campaign" runs the campaigns alone
	$(BIN)/python $(pytest) $(ARGS)

test-lowest: $(LOWEST)/.installed  ## run the tests that depend on versions with the lowest ones allowed; ARGS=tests runs all
	$(LOWEST)/bin/python $(pytest) -m "not campaign" $(or $(ARGS),$(versions))

lint: $(VENV)/.installed-dev  ## check style, types and the direction of imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench:  ## run every benchmark beside its peers and write docs/benchmarks.md (an hour; ARGS="--only sgd")
	@test -x .venv-bench/bin/python || $(or $(PYTHON),python3) -m venv .venv-bench
	@.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@grep -v '^#' benchmarks/requirements.txt | while read -r peer; do \
		.venv-bench/bin/python -m pip install --quiet --disable-pip-version-check "$$peer" || echo "$$peer does not install"; done
	.venv-bench/bin/python benchmarks/page.py $(ARGS)

clean:  ## remove what these commands made
	rm -rf $(VENV) $(LOWEST) .venv-bench runs dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

# An install is done again when pyproject.toml changes; the package itself is installed in place. Libraries are compiled to
# bytecode for the tests, as pip does by itself, so that the processes of a first run do not each compile all of them.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	@echo "installing hatrix into $(VENV): a minute or two, once"
	@$(install) --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	@echo "installing hatrix and the tools of its tests into $(VENV): a few minutes, once"
	@$(install) $(bytecode) --editable . --group dev
	@touch $(VENV)/.installed $@

# Only uv finds the lowest versions that go together, so it is installed for this.
$(LOWEST)/.installed: pyproject.toml
	@echo "installing hatrix with the lowest versions of its dependencies into $(LOWEST): a minute or two, once"
	@$(or $(PYTHON),python3) -m venv --clear $(LOWEST)
	@$(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check uv
	@$(LOWEST)/bin/uv pip install --quiet --python $(LOWEST)/bin/python --resolution lowest-direct --editable . --group dev
	@touch $@

$(BIN)/python:
ifdef UV
	@$(UV) venv --quiet --clear --python "$(or $(PYTHON),>=3.11)" $(VENV)
else
ifeq ($(PYTHON),)
	@echo "error: no Python 3.11 or newer found: install one, or name it: make demo PYTHON=/path/to/python3" >&2
	@exit 1
endif
	@$(PYTHON) -m venv --clear $(VENV) || { rm -rf $(VENV); \
		echo "error: $(PYTHON) cannot make environments: install its venv package (Debian, Ubuntu: python3-venv)" >&2; exit 1; }
	@$(install) --upgrade 'pip>=25.1'
endif
