"""Memory really runs out here: a limit on the address space of a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from scgenept_rt.errors import DeviceMemoryError
from scgenept_rt.session import inference_error

pytest.importorskip("resource", reason="address-space limits exist on POSIX alone")

PROGRAM = """
import json, resource
import numpy as np
from scgenept_rt.bundle import Bundle
from scgenept_rt.errors import DeviceMemoryError
from scgenept_rt.predictor.batches import MemoryBackoff
from scgenept_rt.providers import select_provider
from scgenept_rt.session import open_session

# Without the bundle's graphs being known this is the one that computes whole batches, as on a GPU.
session = open_session(Bundle.open("demo"), select_provider(provider="cpu", threads=1))
genes = np.arange(1000)
values = np.random.default_rng(0).random((192, len(genes)), dtype=np.float32)
flags = np.zeros(values.shape, np.int64)
flags[:, 7] = 1
expected = session.run(values[:2], flags[:2], genes)
# the address space that is in use now, and so much more
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 60 * 2**20,) * 2)
backoff = MemoryBackoff()
predicted = backoff.run(session, values, flags, genes)
try:
    session.run(values, flags, genes)
    failed = False
except DeviceMemoryError:
    failed = True
print(json.dumps({
    "failed": failed,
    "max_cells": backoff.max_cells,
    "difference": float(np.abs(predicted[:2] - expected).max()),
    "shape": predicted.shape,
}))
"""


def test_a_batch_too_large_for_the_memory_is_run_in_parts() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "ONNX Runtime's own log must not appear beside what is raised"
    found = json.loads(done.stdout)
    assert found["failed"], "the whole batch was meant not to fit"
    assert 1 <= found["max_cells"] < 192
    assert found["difference"] < 2e-5
    assert found["shape"] == [192, 1000]


def test_numpys_own_failure_to_reserve_memory_counts_too() -> None:
    with pytest.raises(MemoryError) as caught:
        np.empty((2**40, 2**10), dtype=np.float32)
    error = inference_error("cpu", 2, 3, caught.value)
    assert isinstance(error, DeviceMemoryError)
    assert "ran out of memory on a batch of 2 cells x 3 genes" in str(error)
