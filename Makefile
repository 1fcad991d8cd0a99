# make repro | make new | make test | make test-exhaustive | make check. Needs Python 3.11 or newer with venv, git and make; nothing else.
PYTHON ?= python3
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)
# A tool that was started inside another environment must not carry it along.
unexport PYTHONHOME PYTHONPATH

INSTALLED := $(VENV)/.installed
WITH_ONNX := $(VENV)/.installed-onnx
# A file's tests stay in one process: they share what it made. More than four would not fit into a laptop's memory.
PYTEST := python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.PHONY: repro new upgrade test test-fast test-ci test-exhaustive test-project test-release check setup onnx

repro: $(INSTALLED)
	dvc repro

# A repository for your own data: make new DIR=../tickets OPTIONS="--data tickets.csv --text ticket --label topic"
new: $(INSTALLED)
	@test -n "$(DIR)" || { echo 'Where to? make new DIR=../tickets OPTIONS="--data tickets.csv --text ticket --label topic"'; exit 1; }
	python -m checks.new "$(DIR)" $(OPTIONS)

# In such a repository: what is newer in tunelock.
upgrade: $(INSTALLED)
	python -m checks.upgrade $(OPTIONS)

test: $(WITH_ONNX)
	$(PYTEST) -m "not exhaustive"

test-fast: $(WITH_ONNX)
	$(PYTEST) -m "not slow and not exhaustive"

test-exhaustive: $(WITH_ONNX)
	$(PYTEST)

# Do dvc.yaml, params.yaml and the stages of your project still fit together? A minute; the rest tests tunelock.
test-project: $(INSTALLED)
	$(PYTEST) tests/test_contract.py

# In CI: a project of your own has its own tests; tunelock has all.
test-ci: $(if $(wildcard .tunelock.json),test-project,test-release)

# For tunelock itself: its README and map, held to its committed results, which a project of your own replaces.
test-release: $(WITH_ONNX)
	$(PYTEST) --release -m "not exhaustive"

check: $(INSTALLED)
	ruff check .
	ruff format --check .
	mypy

setup: $(INSTALLED)

# What `python -m ship.export` and its tests need besides.
onnx: $(WITH_ONNX)

# The stamp is younger than the requirements it was made from, so a second call installs nothing.
$(INSTALLED): requirements.txt requirements-report.txt requirements-tools.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12 repro"; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt \
		--requirement requirements-report.txt --requirement requirements-tools.txt
	touch $@

$(WITH_ONNX): requirements-onnx.txt $(INSTALLED)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement requirements-onnx.txt
	touch $@
