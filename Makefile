# make run    set up, then pre-train on the built-in novels, whose holes the model then fills
# make test   the tests            make lint   formatting, lint, types
# make bench  throughput beside its peers            make clean  remove what make and the tools made, not runs/
#
# Every target first makes .venv, and again after pyproject.toml or constraints.txt has changed.

VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.stamp

# The first interpreter that is Python 3.11, 3.12 or 3.13. Looked for only when .venv has to be made.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13 python3; do \
	$$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
	&& echo $$name && break; done)

# A vocabulary of letters and their commonest pairs: three minutes teach spelling, of which anybody sees how well it goes.
# Eight heads, and rotary frequencies for near neighbours: the first thing to learn is which letter stands next to which,
# and one head looks at about one distance (benchmarks/LOG.md).
RUN_ARGS ?= modality.vocab_size=100 model=tiny model.heads=8 model.rope_theta=32 modality.max_length=128 train.lr=3e-3 train.steps=1600 \
	train.tokens_per_batch=2048 train.tokens_per_row=2048 train.eval_every=300 train.checkpoint_every=300 train.log_every=50
TEST_ARGS ?= -q
BENCH_ARGS ?= --quick
JOBS ?= 2

.PHONY: run test lint bench clean

run: $(STAMP)
	$(PY) -m ssl_suite run modality=text objective=mlm out=runs/first-text $(RUN_ARGS)

# One torch thread a worker: two workers with two threads each fight over two cores.
test: $(STAMP)
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) $(TEST_ARGS)

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

bench: $(STAMP)
	$(PY) benchmarks/throughput.py $(BENCH_ARGS)

$(STAMP): pyproject.toml constraints.txt
	@test -x $(PY) || test -n "$(PYTHON)" || { echo "error: no Python 3.11, 3.12 or 3.13 found; set PYTHON=…" >&2; exit 2; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "error: $(PYTHON) cannot make a virtual environment (on Debian: apt install python3-venv)" >&2; exit 2; }
	$(PY) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test,lint,bench]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -not -path './runs/*' -prune -exec rm -rf {} +
