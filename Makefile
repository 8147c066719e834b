# Every target sets up what it needs; `make help` lists them. CONTRIBUTING.md says when to use which.
PYTHON ?= python3
NEWEST_PYTHON ?= python3.13
VENV ?= .venv
DEMO_VENV ?= .venv-demo
MINIMUM_VENV ?= .venv-minimum
NEWEST_VENV ?= .venv-newest
CUDA_VENV ?= .venv-cuda
RECIPES_VENV ?= .venv-recipes

unexport PYTHONDONTWRITEBYTECODE  # tests start many processes, and each would compile the package again

PIP_INSTALL = -m pip install --quiet --disable-pip-version-check
# Compiling whole packages takes as long as installing them; tests import a fifth of their modules.
PIP_UNPACK = $(PIP_INSTALL) --no-compile
# In the order of directories: reordered, files of one slow test would come last, when only one process has work.
PYTEST = -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder
comma := ,
TEST_EXTRAS = cpu,export,zarr,plot,eval,ray,tensorrt-rtx-build,dev
RUNTIME_PACKAGES = '.[cpu,zarr,plot]' 'pytest>=8.3' 'pytest-xdist>=3.8' 'hypothesis>=6.100'
# What needs neither PyTorch nor onnx.
RUNTIME_TESTS = tests/runtime tests/packaging/test_embedding.py -m 'not slow'
# Of it, what takes long and depends little on the versions of others: `make test-minimum LEFT_OUT=` runs that too.
LEFT_OUT = cluster demo download ranking files/test_slow_reads.py output/test_kill.py predictor/test_shards.py \
	providers/test_free_memory.py $(addprefix evaluation/test_,groups.py metrics.py)
VERSION_TESTS = $(RUNTIME_TESTS) $(addprefix --ignore tests/runtime/,$(LEFT_OUT))

.PHONY: help demo fuzz sbom test test-benchmarks test-minimum test-newest test-cuda test-recipes coverage
.PHONY: lint lint-style lint-types lint-imports lint-workflows format docs hooks upgrade lock clean

help:  ## List the targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

demo: $(DEMO_VENV)/.installed  ## Predict synthetic cells in a small environment without PyTorch.
	$(DEMO_VENV)/bin/scgenept-rt demo --out demo-output --overwrite

test: $(VENV)/.installed  ## Run all tests, but for test-benchmarks.
	$(VENV)/bin/python $(PYTEST) -m 'not rehearsal'

test-benchmarks: $(VENV)/.installed  ## Run the scripts of benchmarks/ at a small size.
	$(VENV)/bin/python $(PYTEST) -m rehearsal tests/benchmarks

test-minimum: $(MINIMUM_VENV)/.installed  ## Run what touches other packages with their oldest versions allowed.
	$(MINIMUM_VENV)/bin/python $(PYTEST) $(VERSION_TESTS)

# The newest anndata and pandas need a newer Python than the oldest that is allowed.
test-newest: $(NEWEST_VENV)/.installed  ## Run what touches other packages with their newest versions.
	$(NEWEST_VENV)/bin/python $(PYTEST) $(VERSION_TESTS)

# On CUDA libraries that compute nothing: see tests/cuda/standin/build.sh.
test-cuda: $(CUDA_VENV)/.installed $(CUDA_VENV)/standin/.built  ## Run the real CUDA provider without a GPU.
	CUDA_STANDIN=1 LD_LIBRARY_PATH=$(abspath $(CUDA_VENV)/standin) \
		$(CUDA_VENV)/bin/python -m pytest --numprocesses auto tests/cuda

# SLURM's as root and where it is installed: the Debian packages slurmctld, slurmd, slurm-client and munge.
test-recipes: $(VENV)/.installed $(RECIPES_VENV)/.installed  ## Run the recipes of docs/scaling.md that need other programs.
	PATH="$(abspath $(RECIPES_VENV))/bin:$$PATH" $(VENV)/bin/python -m pytest tests/packaging/test_scaling.py \
		-k 'slurm_requeues or kubernetes_knows or snakemake'

SEED ?= $(shell date +%s)
SCALE ?= 20
fuzz: $(VENV)/.installed  ## Damage inputs and kill runs at random, SCALE times as many as the tests do, with SEED.
	FUZZ_SEED=$(SEED) FUZZ_SCALE=$(SCALE) $(VENV)/bin/python $(PYTEST) --dist load -k 'damage or kill' tests/runtime/output \
		tests/runtime/test_mutated_inputs.py tests/runtime/predictor/test_resume.py tests/runtime/predictor/test_shards.py

# What `pip install '.[cpu]'` brings, with versions and licences.
sbom: $(DEMO_VENV)/.installed  ## Write a software bill of materials of the runtime, in CycloneDX's format.
	$(PYTHON) -m venv .venv-sbom
	.venv-sbom/bin/python $(PIP_INSTALL) 'cyclonedx-bom>=7.5'
	mkdir -p dist
	.venv-sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--of JSON -o dist/sbom.json $(DEMO_VENV)/bin/python

coverage: $(VENV)/.installed  ## Run all tests and report the lines that none of them reach.
	$(VENV)/bin/python $(PYTEST) --cov --cov-report=term-missing:skip-covered

lint: lint-style lint-types lint-imports lint-workflows  ## Run all linters.

lint-style: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

lint-types: $(VENV)/.installed
	$(VENV)/bin/mypy

lint-imports: $(VENV)/.installed
	$(VENV)/bin/lint-imports

lint-workflows: $(VENV)/.installed
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml

format: $(VENV)/.installed  ## Format the code and fix what ruff can fix.
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

docs: $(VENV)/.installed  ## Write the made parts of docs/ again: drawing, reference, notebook.
	$(VENV)/bin/python docs/make_architecture.py
	$(VENV)/bin/python docs/make_reference.py
	$(VENV)/bin/python docs/make_tutorial_notebook.py

hooks: $(VENV)/.installed  ## Run the linters before each commit.
	$(VENV)/bin/pre-commit install

upgrade: $(VENV)/.installed  ## Install the newest versions of everything; then `make test` and `make lock`.
	$(VENV)/bin/python $(PIP_INSTALL) --upgrade --upgrade-strategy eager -e '.[$(TEST_EXTRAS)]'

# uv reads the checksums of all platforms' files. Not those of torch: its builds for CPUs and for CUDA share a version,
# but lie at different indexes and need different packages, which pip chooses by its configuration.
lock: $(VENV)/.installed  ## Pin the versions and checksums of the test environment in requirements-test.txt.
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python $(PIP_INSTALL) uv
	$(VENV)/bin/python -m pip freeze --exclude-editable --exclude scgpt | sed 's/+.*//' > .venv-lock/installed.txt
	.venv-lock/bin/uv pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
		--no-header --no-annotate --constraints .venv-lock/installed.txt --output-file .venv-lock/compiled.txt \
		pyproject.toml $(foreach extra,$(subst $(comma), ,$(TEST_EXTRAS)),--extra $(extra))
	(sed -n '/^#/p' requirements-test.txt; \
	sed -E '/^(torch|triton|cuda-.*|nvidia-.*)==/,/[^\\]$$/d' .venv-lock/compiled.txt) > requirements-test.txt.new
	mv requirements-test.txt.new requirements-test.txt
	sed -n '/^torch==/p' .venv-lock/installed.txt > constraints-torch.txt
	touch $(VENV)/.installed

clean:  ## Remove environments, caches and the demo's output.
	rm -rf .venv-sbom .venv-lock $(VENV) $(DEMO_VENV) $(MINIMUM_VENV) $(NEWEST_VENV) $(CUDA_VENV) $(RECIPES_VENV) demo-output
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage

# With checksums and without looking for dependencies, all of which are listed; then torch with what its build needs.
$(VENV)/.installed: pyproject.toml requirements-test.txt constraints-torch.txt tests/parity/requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP_UNPACK) --require-hashes --no-deps -r requirements-test.txt
	$(VENV)/bin/python $(PIP_UNPACK) --no-build-isolation -c constraints-torch.txt -e '.[$(TEST_EXTRAS)]'
	$(VENV)/bin/python $(PIP_UNPACK) --require-hashes --no-deps -r tests/parity/requirements.txt
	touch $@

$(DEMO_VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/python $(PIP_INSTALL) -e '.[cpu]'
	touch $@

# Without google-crc32c, numcodecs prints a warning of what zarr 3.1.3 brings.
$(MINIMUM_VENV)/.installed: pyproject.toml constraints-minimum.txt
	$(PYTHON) -m venv $(MINIMUM_VENV)
	$(MINIMUM_VENV)/bin/python $(PIP_UNPACK) -c constraints-minimum.txt -e $(RUNTIME_PACKAGES) google-crc32c
	touch $@

# dask and xarray: for cells that are not loaded yet.
$(NEWEST_VENV)/.installed: pyproject.toml
	$(NEWEST_PYTHON) -m venv $(NEWEST_VENV)
	$(NEWEST_VENV)/bin/python $(PIP_UNPACK) -e $(RUNTIME_PACKAGES) dask xarray
	touch $@

$(CUDA_VENV)/.installed: pyproject.toml tests/cuda/requirements.txt
	$(PYTHON) -m venv $(CUDA_VENV)
	$(CUDA_VENV)/bin/python $(PIP_UNPACK) -e '.[plot]' -r tests/cuda/requirements.txt
	touch $@

$(RECIPES_VENV)/.installed:
	$(PYTHON) -m venv $(RECIPES_VENV)
	$(RECIPES_VENV)/bin/python $(PIP_UNPACK) 'snakemake==9.*' kubernetes-validate
	touch $@

# Of NVIDIA's wheels only the headers are used: beside ONNX Runtime, their libraries would be loaded instead.
$(CUDA_VENV)/standin/.built: $(CUDA_VENV)/.installed $(wildcard tests/cuda/standin/*)
	$(CUDA_VENV)/bin/python $(PIP_INSTALL) --no-deps --upgrade --target $(CUDA_VENV)/headers \
		'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-crt==13.0.*'
	tests/cuda/standin/build.sh $(CUDA_VENV)/standin $(CUDA_VENV)/headers/nvidia/cu13/include
	touch $@
