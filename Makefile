# `make` alone lists the targets. Requires only Python 3.11+ and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
ARGS   ?=
KILLS  ?= 100

.DEFAULT_GOAL := help
.PHONY: help setup run plan test kill check format lint types bench-memo clean forget-results

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: $(READY)  ## create the virtual environment with pinned packages

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0])'
	@echo "setting up $(VENV) (once; some minutes, some gigabytes) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $(READY)

run: $(READY)  ## run the default job: a tiny model forgets; ARGS='method=grad_ascent seed=1' for others
	$(BIN)/python run.py $(ARGS)

plan: $(READY)  ## show what a job would do: ARGS as for run
	$(BIN)/python run.py plan=true $(ARGS)

.PHONY: status
status: $(READY)  ## show what is done, what runs now and what failed: ARGS as for run
	$(BIN)/python run.py status=true $(ARGS)

test: $(READY)  ## run the tests, on up to eight cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadscope --no-loadscope-reorder $(ARGS)

kill: $(READY)  ## kill a job a hundred times and compare (KILLS=20 for fewer)
	$(BIN)/python tools/chaos.py $(KILLS)

format: $(READY)  ## write the code in the house style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	PYTHONPATH=. $(BIN)/lint-imports

types: $(READY)
	$(BIN)/mypy

check: lint types test  ## format, lint, types and tests; must pass before a commit

bench-memo: $(READY)  ## compare MEMO's engine with the published code on small models; MODEL=FOLDER for your own, ARGS='--models tiny'
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/memo_engine.py $(if $(MODEL),--model $(MODEL)) $(ARGS)

.PHONY: memo-scores
memo-scores: $(READY)  ## score known and unknown facts by every profile of memo=: MODEL=FOLDER, MEOW_DATA_DIR
	OMP_NUM_THREADS=1 PYTHONPATH=. $(BIN)/python tools/memo_known.py score --model $(MODEL) $(ARGS)

.PHONY: memo-figure
memo-figure: $(READY)  ## draw the stored scores of known and unknown facts, and print their table
	PYTHONPATH=. $(BIN)/python tools/memo_known.py draw $(ARGS)

.PHONY: bench-train
bench-train: $(READY)  ## compare an unlearning step with the published code; ARGS='--hidden-size 256'; MODEL=FOLDER: your model beside transformers' Trainer
	OMP_NUM_THREADS=1 $(BIN)/python $(if $(MODEL),benchmarks/training_pretrained.py --model $(MODEL),benchmarks/training.py) $(ARGS)

.PHONY: bench-eval
bench-eval: $(READY)  ## compare TOFU's evaluation with two straightforward implementations; ARGS='--split forget01'
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/evaluation.py $(ARGS)

.PHONY: bench-memo-gpu
bench-memo-gpu: $(READY)  ## time MEMO's engine on a GPU, at the sizes of Phi-1.5 and Llama-2-7B; ARGS='--facts 2 --generation-batch-size 128'
	$(BIN)/python benchmarks/memo_gpu.py $(ARGS)

.PHONY: stale-tables
stale-tables: $(READY)  ## list the published tables that are older than the stages they rest on
	$(BIN)/python tools/table_provenance.py

.PHONY: answer-cosines
answer-cosines: $(READY)  ## do the inverted answers of a run pull against each other? ARGS as for run
	OMP_NUM_THREADS=1 $(BIN)/python tools/answer_cosines.py $(ARGS)

.PHONY: smollm2
smollm2: $(READY)  ## fetch SmolLM2-135M-Instruct (98 MB, a GGUF file) into outputs/models/ and print what to run
	$(BIN)/python tools/smollm2.py

.PHONY: bench-store
bench-store: $(READY)  ## a thousand made-up runs in eight processes on one store; ARGS='--processes 1', '--folder SHARED'
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/store.py --imports torch transformers pytorch_lightning peft $(ARGS)

.PHONY: verify-store
verify-store: $(READY)  ## check every stored result against its manifest; STORE=FOLDER for another store
	$(BIN)/python -m meow_lightning.cli.verify_store $(STORE)

.PHONY: scale
scale: $(READY)  ## print the tables of docs/guides/large-models.md: memory, disk and (with MEOW_DATA_DIR) time
	$(BIN)/python benchmarks/scale.py $(ARGS)

.PHONY: screenshots
screenshots: $(READY)  ## take the pictures of the docs from the newest run and sweep in outputs/ (needs Chromium)
	PYTHONPATH=. $(BIN)/python tools/screenshots.py $(ARGS)

DOCS_READY := $(VENV)/.docs-ready

$(DOCS_READY): $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs]'
	@touch $(DOCS_READY)

.PHONY: docs
docs: $(DOCS_READY)  ## build the documentation into site/
	PYTHONPATH=. NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

clean:  ## remove the environment and caches; results in outputs/ stay
	rm -rf $(VENV) site .pytest_cache .mypy_cache .ruff_cache *.egg-info

forget-results:  ## remove everything the program wrote
	rm -rf outputs/store outputs/runs outputs/reports
