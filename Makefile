# One way to do each thing. `make help` lists the targets; `make setup` is run by all that need it.

# The version that is tested. A later torch may well work; see CHANGELOG.md before changing it.
TORCH := torch==2.13.0
# A live upstream for the tests; without what it depends on, which would bring another torch.
SPEECHBRAIN := speechbrain==1.1.2
PYTHON ?= $(shell command -v python3.11 || command -v python3)
JOBS ?= 2
CASES ?= 100000
PYTEST_ARGS ?= -n $(JOBS) --dist loadfile
FAST := -m "not slow"

VENV := .venv
BIN := $(VENV)/bin
# Where the build keeps the ONNX Runtime headers that it fetches; `make clean` leaves it.
export QRNN_DEPLOY_CACHE ?= $(CURDIR)/.cache
BUILD := build/dev
SETUP := $(VENV)/.setup-done
LIBRARY := $(BUILD)/.installed
CONFIGURE := $(BIN)/cmake -S plugins -G Ninja -D QRNN_DEPLOY_REQUIRE_KERNEL=ON \
	-D CMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja -D QRNN_DEPLOY_PYTHON=$(CURDIR)/$(BIN)/python
PLUGIN_FILES := $(shell find plugins -type f 2>/dev/null)
CXX_FILES := $(shell find plugins tests/cpp tests/gpu bench -name '*.cc' -o -name '*.h' -o -name '*.cu' \
	-o -name '*.cuh' 2>/dev/null)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup programs demo train test test-slow test-portable test-large bench fuzz tsan test-gpu bench-gpu lint format wheel docs clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(LIBRARY) ## Make .venv with everything and build the kernel library; quick when nothing changed

# Torch is resolved in the same call as the rest, pinned, so that no second build of it is drawn in.
$(SETUP): pyproject.toml Makefile
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo 'make setup needs Python 3.10 or later with venv (Debian: apt-get install python3-venv)'; \
		exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)' -e '.[dev]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps '$(SPEECHBRAIN)'
	@touch $@

# The editable install reads Python from this folder; the library is built into it.
$(LIBRARY): $(SETUP) $(PLUGIN_FILES) qrnn_deploy/__init__.py
	$(CONFIGURE) -B $(BUILD) -D CMAKE_BUILD_TYPE=Release
	$(BIN)/cmake --build $(BUILD) --parallel $(JOBS)
	$(BIN)/cmake --install $(BUILD) --prefix $(CURDIR)
	@touch $@

# The trained character language model, from checkpoint to text.
DEMO := demo-output
CHARLM := examples/charlm

demo: setup ## Export, verify, score and run the model trained on real text; build an engine
	@mkdir -p $(DEMO)
	$(BIN)/python $(CHARLM)/data.py --heldout $(DEMO)/heldout.txt
	$(BIN)/qrnn-deploy export $(CHARLM)/model.safetensors -o $(DEMO)/charlm.onnx
	$(BIN)/qrnn-deploy inspect $(DEMO)/charlm.onnx
	$(BIN)/qrnn-deploy verify $(DEMO)/charlm.onnx --checkpoint $(CHARLM)/model.safetensors
	@$(BIN)/python -c "import json; \
	model = json.load(open('$(CHARLM)/training-log.json'))['models']['qrnn']; \
	print('PyTorch after training, on the same text:', model['bits_per_character']['heldout'])"
	$(BIN)/qrnn-deploy run $(DEMO)/charlm.onnx --kernel require --score $(DEMO)/heldout.txt
	$(BIN)/qrnn-deploy run $(DEMO)/charlm.onnx --kernel require --generate 400 \
		--prompt "The import statement" --temperature 0.7 --seed 1
	@if $(BIN)/python -c 'import tensorrt_rtx_bindings' 2>/dev/null; then set -x; \
		$(BIN)/qrnn-deploy build $(DEMO)/charlm.onnx -o $(DEMO)/charlm.engine \
			--backend tensorrt-rtx && \
		$(BIN)/qrnn-deploy inspect $(DEMO)/charlm.engine; \
	else echo 'No engine: TensorRT for RTX is not installed (x86-64 Linux only)'; fi

train: setup ## Train the demo's model anew, and the LSTM beside it (a quarter of an hour)
	$(BIN)/python $(CHARLM)/train.py

# The C++ tests and the C++ benchmark.
programs: setup
	$(CONFIGURE) -B $(BUILD) -D CMAKE_BUILD_TYPE=Release -D QRNN_DEPLOY_TESTS=ON
	$(BIN)/cmake --build $(BUILD) --parallel $(JOBS)

# What the tests must not skip: all that `make setup` brings on this machine.
REQUIRED := kernel,speechbrain,sru
ifeq ($(shell uname -sm),Linux x86_64)
REQUIRED := kernel,speechbrain,sru,tensorrt-rtx
endif

test: programs ## Run the tests: the C++ core first, then everything else
	$(BIN)/ctest --test-dir $(BUILD) --output-on-failure
	QRNN_DEPLOY_TESTS_REQUIRE=$(REQUIRED) $(BIN)/python -m pytest $(PYTEST_ARGS) $(FAST)

test-slow: programs ## Run the tests that are left out of `make test`, some seconds each
	$(MAKE) test FAST="-m slow"

test-portable: setup ## Run one file in ONNX Runtime, onnx.reference, onnxruntime-web and OpenVINO (needs npm)
	tests/portable/run.sh

# Vocabularies of fastai's and WikiText-103's size, and a checkpoint of more than 2 GiB.
test-large: setup ## Export large models, at most 1.8 times their checkpoints in memory (needs 10 GB of it, 5 of disk)
	for words in 60000 267735 1300000; do \
		$(BIN)/python bench/large_export.py --words $$words --check 1.8 || exit 1; done

bench: programs ## Measure every speed goal; ratios in one run
	$(BIN)/python bench/run.py --pool-bench $(BUILD)/tests/qrnn_deploy_pool_bench $(BENCH_ARGS)

# The core and the operator glue under AddressSanitizer and UBSan.
fuzz: $(SETUP) ## Fuzz shapes, lengths and attributes under sanitizers (CASES=100000)
	$(CONFIGURE) -B build/sanitize -D CMAKE_BUILD_TYPE=Sanitize \
		-D QRNN_DEPLOY_SANITIZE=ON -D QRNN_DEPLOY_TESTS=ON
	$(BIN)/cmake --build build/sanitize --parallel $(JOBS)
	build/sanitize/tests/qrnn_deploy_core_test
	build/sanitize/tests/qrnn_deploy_fuzz --cases $(CASES)
	$(BIN)/ctest --test-dir build/sanitize -R '^trt_' --output-on-failure

# On a machine with a GPU: PyTorch, nvcc and CMake are enough, .venv is not needed.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,python3)

test-gpu: ## Run what only a GPU can show; GPU_ARGS=--dry-run compiles and lists it anywhere
	$(GPU_PYTHON) tests/gpu/run.py $(GPU_ARGS)

bench-gpu: ## Measure the GPU speed goals (GPU_ARGS=--dry-run compiles and lists them anywhere)
	$(GPU_PYTHON) bench/gpu_bench.py $(GPU_ARGS)

# Each mutant leaves one barrier out, or publishes in no order: 66 says that it was found.
TSAN_SOURCES := tests/cpp/gpu_race_test.cc tests/cpp/gpu_emulation.cc plugins/core/gpu_plan.cc
TSAN := TSAN_OPTIONS=halt_on_error=1:exitcode=66 build/tsan/gpu_race_test
TSAN_MUTANTS := "scan --skip-barrier 1" "scan --skip-barrier 2" "chain --weak-order" \
	$(foreach barrier,1 2 3,"chain --skip-barrier $(barrier)")

tsan: ## Run the GPU kernels on the host under ThreadSanitizer, whole and with barriers left out
	@mkdir -p build/tsan
	$(CXX) -std=c++20 -O1 -g1 -fsanitize=thread -ffp-contract=off -pthread -I plugins/core \
		$(TSAN_SOURCES) -o build/tsan/gpu_race_test
	$(TSAN)
	@for mutant in $(TSAN_MUTANTS); do $(TSAN) $$mutant >build/tsan/log 2>&1; \
	test $$? -eq 66 || { echo "not found: $$mutant"; exit 1; }; echo "found: $$mutant"; done

lint: setup ## Check style, types and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(if $(CXX_FILES),$(BIN)/clang-format --dry-run --Werror $(CXX_FILES))

format: setup ## Rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(if $(CXX_FILES),$(BIN)/clang-format -i $(CXX_FILES))

docs: setup ## Rewrite docs/cli.md from the help texts
	$(BIN)/python scripts/cli_docs.py

wheel: setup ## Build the source archive and the wheel into dist/
	$(BIN)/python -m build --outdir dist .

clean: ## Remove what was built; .venv stays
	rm -rf build dist demo-output qrnn_deploy/lib .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
