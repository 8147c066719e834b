from __future__ import annotations

import subprocess
import sys

import pytest

# A process of its own: in one that has run hundreds of tests, memory goes back and forth for other reasons.
HOST_PEAK = """
import numpy as np
from scgenept_rt.benchmark import memory

if not memory.reset_host_peak():
    raise SystemExit("cannot reset")
before = memory.host_peak_bytes()
block = np.ones(64 * 2**20, dtype=np.uint8)
with_block = memory.host_peak_bytes() - before
del block
memory.reset_host_peak()
print(with_block, memory.host_peak_bytes() - before)
"""


def test_host_peak_is_counted_anew():
    done = subprocess.run([sys.executable, "-c", HOST_PEAK], capture_output=True, text=True, check=False)
    if "cannot reset" in done.stderr:
        pytest.skip("only Linux resets the peak, through /proc/self/clear_refs")
    assert done.returncode == 0, done.stderr
    with_block, without = map(int, done.stdout.split())
    assert with_block > 48 * 2**20
    assert without < 32 * 2**20
