# Every target sets up what it needs: `make train` and `make test` work on a bare clone.
#
#   make train       data, one laptop-size training run, evaluation, plots
#   make test        the test suite without the slow tests
#   make test-all    the whole test suite, the comparison with Sionna too
#   make lint        format and style check
#   make bench       speed against peers (installs the peers; ONLY=training for one group)
#   make docs        the documentation site, into site/
#   make audit       the properties that the generated data must have
#   make pretrain    train the shipped starting points again (up to two hours)
#   make pretrain-experts   train M3LLM's experts again
#   make pretrain-probes    train MSAO's models again, after the drafts (40 minutes)
#   make pretrain-draft     train the two that draft again (25 minutes)
#   make setup       only the environment, .venv
#   make clean       remove the environment and what was built
#
# Set PYTHON to choose the interpreter: make setup PYTHON=python3.12

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

PYTHON ?= $(firstword $(foreach p,python3 python3.11 python3.12 python3.13,$(if \
	$(shell $(p) -c 'import sys; print(sys.version_info >= (3, 11) or "")' 2>/dev/null),$(p))))
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
WORKDIR ?= runs/tokcom
SNR_DB ?= -10:25:2.5,inf
NUM_EXAMPLES ?= 1300
NUM_SEEDS ?= 5
EXPERTS := recognise count compare document chart sign lesion all
# One process per core up to four; a file's tests stay together and share fixtures. Files
# come in their order, in which the last ones are short.
PYTEST ?= $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile \
	--no-loadscope-reorder

.PHONY: help setup train test test-all lint format bench docs audit pretrain
.PHONY: pretrain-experts pretrain-edge pretrain-mixture pretrain-draft
.PHONY: pretrain-probes clean

help:
	@sed -n 's/^#   \(make .*\)/\1/p' $(firstword $(MAKEFILE_LIST))

setup: $(VENV)/.stamp-dev

# A stamp file a group of extras: the second call has nothing to do, and a change of
# the pins or of the dependencies installs again. A half-made environment is remade.
$(VENV)/.stamp-dev: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "m3jax needs Python 3.11 or later: set PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("m3jax needs Python 3.11 or later, and $(PYTHON) is %d.%d: set PYTHON=/path/to/python3" % v[:2])'
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(PIP) install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

$(VENV)/.stamp-docs: $(VENV)/.stamp-dev
	$(PIP) install --quiet -c constraints.txt -e '.[docs]'
	@touch $@

$(VENV)/.stamp-bench: $(VENV)/.stamp-dev
	$(PIP) install --quiet -c constraints.txt -e '.[bench]'
	@touch $@

train: setup
	$(BIN)/python launch/train.py --config=configs/tokcom.py --workdir=$(WORKDIR)
	$(BIN)/python launch/evaluate.py --workdir=$(WORKDIR) --snr_db=$(SNR_DB) --num_seeds=$(NUM_SEEDS) --num_examples=$(NUM_EXAMPLES)

test: setup
	$(PYTEST) -m 'not slow'

test-all: $(VENV)/.stamp-bench
	$(PYTEST)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.stamp-bench
	$(BIN)/python launch/bench.py $(if $(ONLY),--only=$(ONLY))

docs: $(VENV)/.stamp-docs
	$(BIN)/mkdocs build --strict

audit: setup
	$(BIN)/python launch/audit.py

pretrain: setup
	$(BIN)/python launch/train.py --config=configs/generalist.py --workdir=runs/pretrain
	$(BIN)/python launch/evaluate.py --workdir=runs/pretrain --export=generalist --export_root=m3jax/pretrained
	$(BIN)/python launch/train.py --config=configs/generalist.py:more --workdir=runs/more
	$(BIN)/python launch/evaluate.py --workdir=runs/more --export=generalist --export_root=m3jax/pretrained

pretrain-experts: setup
	for skill in $(EXPERTS); do \
	    $(BIN)/python launch/train.py --config=configs/specialist.py:$$skill \
	        --workdir=runs/expert_$$skill && \
	    $(BIN)/python launch/evaluate.py --workdir=runs/expert_$$skill \
	        --export=expert_$$skill --export_root=m3jax/pretrained || exit 1; \
	done

pretrain-edge: setup
	for part in base:edge_base tuned:edge_experts generalists:edge_generalists; do \
	    name=$${part#*:} && \
	    $(BIN)/python launch/train.py --config=configs/edge_experts.py:$${part%:*} \
	        --workdir=runs/$$name && \
	    $(BIN)/python launch/evaluate.py --workdir=runs/$$name \
	        --export=$$name --export_root=m3jax/pretrained || exit 1; \
	done

pretrain-mixture: setup
	$(BIN)/python launch/train.py --config=configs/wdmoe.py:mixture \
	    --workdir=runs/edge_mixture
	$(BIN)/python launch/evaluate.py --workdir=runs/edge_mixture \
	    --export=edge_mixture --export_root=m3jax/pretrained

pretrain-draft: setup
	$(BIN)/python launch/train.py --config=configs/generalist.py:draft \
	    --workdir=runs/edge_draft
	$(BIN)/python launch/evaluate.py --workdir=runs/edge_draft \
	    --export=edge_draft --export_root=m3jax/pretrained
	$(BIN)/python launch/train.py --config=configs/generalist.py:draft_more \
	    --workdir=runs/edge_draft_more
	$(BIN)/python launch/evaluate.py --workdir=runs/edge_draft_more \
	    --export=edge_draft --export_root=m3jax/pretrained
	$(BIN)/python launch/train.py --config=configs/generalist.py:exit \
	    --workdir=runs/edge_exit
	$(BIN)/python launch/evaluate.py --workdir=runs/edge_exit \
	    --export=edge_exit --export_root=m3jax/pretrained

pretrain-probes: setup
	for part in whole:edge_cloud laptop:edge_probes draft:edge_pruned_draft; do \
	    name=$${part#*:} && \
	    $(BIN)/python launch/train.py --config=configs/msao.py:$${part%:*} \
	        --workdir=runs/$$name && \
	    $(BIN)/python launch/evaluate.py --workdir=runs/$$name \
	        --export=$$name --export_root=m3jax/pretrained || exit 1; \
	done

clean:
	rm -rf $(VENV) build dist site .pytest_cache .ruff_cache
