"""The automatic batch size by the free memory of a GPU, on a machine with a driver and NVML that are stand-ins."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest

import scgenept_rt as sgr
from scgenept_rt.session import automatic_batch_size
from tests.runtime.partial_output import n_committed
from tests.runtime.providers.conftest import Machine

GIB = 2**30

MEASURE = """
import json, sys
from scgenept_rt.providers.devices import gpu_memory
print(json.dumps(gpu_memory(int(sys.argv[1]))))
"""
# Rows depend on the size of their batch here, as rounding makes them on a GPU.
COMMAND = """
import os, onnxruntime
import scgenept_rt.predictor.writing as writing
from scgenept_rt.cli import main
writing._SECONDS_BETWEEN_COMMITS, writing._COMMIT_SHARE = 0, 1  # commit after every block of rows
n_run = 0
def predicted(session, outputs, feed):
    global n_run
    n_run += 1
    if n_run == int(os.environ.get("KILLED_AT", 0)):
        os.kill(os.getpid(), 9)
    return [feed["values"] + feed["pert_flags"].astype("float32") + len(feed["values"])]
onnxruntime.InferenceSession.run = predicted
main()
"""


def memory_for(bundle: Path, n_cells: int, element: int = 2) -> str:
    """The free memory, in bytes, with which batches of so many cells fit and no larger ones."""
    dimensions = sgr.Bundle.open(bundle).manifest.dimensions
    a_token = 8 * dimensions.d_model * element / 0.8 + 2 * (4 + 8 + 4)
    return str(GIB + int(n_cells * dimensions.n_genes * a_token) + 1)


@pytest.mark.parametrize(
    ("provider", "n_genes", "size"), [("cuda", 5045, 32), ("tensorrt", 24, 1024), ("cuda", 10**6, 1), ("cpu", 5045, 3)]
)
def test_size_by_tokens_alone_where_free_memory_is_not_known(provider: str, n_genes: int, size: int) -> None:
    assert automatic_batch_size(provider, n_genes) == size


@pytest.mark.parametrize(
    ("free", "width", "fp16", "fp32"),
    [(80.0, 512, 32, 32), (2.6, 512, 32, 16), (2.5, 512, 16, 8), (0.0, 512, 1, 1), (2.0, 1024, 8, 4)],
)
def test_size_is_halved_until_the_activations_fit_beside_the_reserve(
    free: float, width: int, fp16: int, fp32: int
) -> None:
    options: dict[str, Any] = {"d_model": width, "free_bytes": int(free * GIB)}
    assert automatic_batch_size("cuda", 5045, precision="fp16", **options) == fp16
    assert automatic_batch_size("cuda", 5045, precision="fp32", **options) == fp32


def measured(machine: Machine, device: int, **environment: str) -> Any:
    result = machine.run(MEASURE, str(device), **environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_memory_is_that_of_the_gpu_of_this_number_among_the_visible(machine: Machine) -> None:
    machine.add_driver((9, 0), (8, 9))
    machine.add_nvml()
    free = {"FREE_0": str(3 * GIB), "FREE_1": str(5 * GIB)}
    assert measured(machine, 0, **free) == [3 * GIB, 97 * GIB, "580.65.06"]
    assert measured(machine, 1, **free) == [5 * GIB, 95 * GIB, "580.65.06"]
    assert measured(machine, 0, CUDA_VISIBLE_DEVICES="1,0", **free) == [5 * GIB, 95 * GIB, "580.65.06"]
    # A slice has no more than CUDA says, 80 GiB, whatever is free on the whole GPU.
    assert measured(machine, 0, FREE_0=str(99 * GIB)) == [80 * GIB, 1 * GIB, "580.65.06"]


def test_memory_is_not_known_without_a_driver_without_nvml_and_where_nvml_cannot_tell(machine: Machine) -> None:
    assert measured(machine, 0) is None
    machine.add_driver((9, 0))
    assert measured(machine, 0) is None
    machine.compile(machine.libraries / "libnvidia-ml.so.1", "int nvmlInit(void) { return 0; }")  # an older one
    assert measured(machine, 0) is None
    machine.add_nvml()
    assert measured(machine, 0) is None


def test_resumed_run_keeps_its_batches_when_other_memory_is_free(
    gpu_machine: Machine, bundle: Path, make_cells: Callable[[int], anndata.AnnData], tmp_path: Path
) -> None:
    gpu_machine.add_nvml()
    cells = make_cells(40)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    genes = cells.var_names
    out, begun, later = tmp_path / "out.h5ad", memory_for(bundle, 16), memory_for(bundle, 4)

    def predict(free: str, *options: str, killed_at: int = 0) -> int:
        result = gpu_machine.run(
            COMMAND,
            *("predict", str(bundle), str(tmp_path / "cells.h5ad"), "--out", str(out)),
            *("-p", genes[3], "-p", f"{genes[3]}+{genes[5]}", "--aggregate", "cells", "--provider", "cuda"),
            *("--no-check", *options),
            FREE_0=free,
            KILLED_AT=str(killed_at),
        )
        assert result.returncode in (0, -signal.SIGKILL), result.stderr
        return result.returncode

    def sizes() -> set[float]:
        """The sizes of the batches that the rows were predicted in."""
        return set(np.round(anndata.read_h5ad(out).X[:, 0] - np.tile(cells.X[:, 0], 2)))

    assert predict(begun, killed_at=4) == -signal.SIGKILL
    assert 0 < n_committed(out) < 80
    assert predict(later, "--resume") == 0
    assert sizes() == {16}
    # A loop that resumes until it succeeds ends, whatever is free by then.
    assert predict(later, "--resume", killed_at=1) == 0
    # What is there is another run's where it is to be replaced.
    assert predict(later, "--resume", "--overwrite") == 0
    assert sizes() == {4}
