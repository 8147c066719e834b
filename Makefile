# `make demo` and `make test` set up everything that they need; see README.md.
PYTHON ?= python3
VENV ?= .venv
DEMO_VENV ?= .venv-demo
PIP_INSTALL = -m pip install --quiet --disable-pip-version-check
MINIMUM_VENV ?= .venv-minimum
NEWEST_VENV ?= .venv-newest
NEWEST_PYTHON ?= python3.13
CUDA_VENV ?= .venv-cuda
SETTINGS = pyproject.toml constraints-test.txt constraints-minimum.txt Makefile

.PHONY: demo test test-minimum test-newest test-cuda lint format coverage clean

# The demo runs where people will run it: without PyTorch.
demo: $(DEMO_VENV)/.installed
	$(DEMO_VENV)/bin/scgenept-rt demo --out demo-output --overwrite

test: $(VENV)/.installed
	$(VENV)/bin/python -m pytest --numprocesses auto --dist loadfile

# What needs no export stage, and so no PyTorch; without the kills at every step of writing, which take longest.
WITHOUT_EXPORT = --ignore tests/runtime/output/test_kill.py \
	$(addprefix tests/runtime/,expression output demo evaluation plotting download) \
	$(addprefix tests/runtime/,test_genes.py perturbation test_genetic_interactions.py) \
	tests/packaging/test_embedding.py

# With the oldest versions that are allowed.
test-minimum: $(MINIMUM_VENV)/.installed
	$(MINIMUM_VENV)/bin/python -m pytest --numprocesses auto --dist loadfile $(WITHOUT_EXPORT)

# With the newest versions: those of anndata and pandas need a newer Python than the oldest that is allowed.
test-newest: $(NEWEST_VENV)/.installed
	$(NEWEST_VENV)/bin/python -m pytest --numprocesses auto --dist loadfile $(WITHOUT_EXPORT)

# The real CUDA provider on CUDA libraries that compute nothing: see tests/cuda/standin/build.sh.
test-cuda: $(CUDA_VENV)/.installed $(CUDA_VENV)/standin/.built
	CUDA_STANDIN=1 LD_LIBRARY_PATH=$(abspath $(CUDA_VENV)/standin) \
		$(CUDA_VENV)/bin/python -m pytest --numprocesses auto tests/cuda

coverage: $(VENV)/.installed
	$(VENV)/bin/python -m pytest --numprocesses auto --dist loadfile --cov --cov-report=term-missing:skip-covered

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

format: $(VENV)/.installed
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

$(DEMO_VENV)/.installed: $(SETTINGS)
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/python $(PIP_INSTALL) -e '.[cpu]'
	touch $@

# scgpt is compared with, never imported by the package; its own pins no longer resolve, hence --no-deps.
$(VENV)/.installed: $(SETTINGS)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python $(PIP_INSTALL) -c constraints-test.txt -e '.[cpu,export,zarr,plot,eval,tensorrt-rtx-build,dev]'
	$(VENV)/bin/python $(PIP_INSTALL) --no-deps scgpt==0.2.4
	touch $@

# numcodecs 0.16.4 prints a warning of what zarr 3.1.0 brings.
$(MINIMUM_VENV)/.installed: $(SETTINGS)
	$(PYTHON) -m venv $(MINIMUM_VENV)
	$(MINIMUM_VENV)/bin/python $(PIP_INSTALL) -c constraints-minimum.txt -e '.[cpu,zarr,plot]' \
		'pytest>=8.3' 'pytest-xdist>=3.6' 'hypothesis>=6.100' 'numcodecs<0.16.4'
	touch $@

$(NEWEST_VENV)/.installed: $(SETTINGS)
	$(NEWEST_PYTHON) -m venv $(NEWEST_VENV)
	$(NEWEST_VENV)/bin/python $(PIP_INSTALL) -e '.[cpu,zarr,plot]' \
		'pytest>=8.3' 'pytest-xdist>=3.6' 'hypothesis>=6.100'
	touch $@

$(CUDA_VENV)/.installed: pyproject.toml tests/cuda/requirements.txt Makefile
	$(PYTHON) -m venv $(CUDA_VENV)
	$(CUDA_VENV)/bin/python $(PIP_INSTALL) -e '.[plot]' -r tests/cuda/requirements.txt
	touch $@

# Of NVIDIA's wheels only the headers are used: beside ONNX Runtime, their libraries would be loaded instead.
$(CUDA_VENV)/standin/.built: $(CUDA_VENV)/.installed $(wildcard tests/cuda/standin/*)
	$(CUDA_VENV)/bin/python $(PIP_INSTALL) --no-deps --upgrade --target $(CUDA_VENV)/headers \
		'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-crt==13.0.*'
	tests/cuda/standin/build.sh $(CUDA_VENV)/standin $(CUDA_VENV)/headers/nvidia/cu13/include
	touch $@

clean:
	rm -rf $(VENV) $(DEMO_VENV) $(MINIMUM_VENV) $(NEWEST_VENV) $(CUDA_VENV) demo-output .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage
