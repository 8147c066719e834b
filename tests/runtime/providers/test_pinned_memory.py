"""Batches in pinned memory, on a machine whose driver is a stand-in that ends the process when it is misused."""

from __future__ import annotations

import mmap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from scgenept_rt.providers.pinned_memory import PinnedMemory, whole_pages
from tests.runtime.providers.conftest import DRIVER
from tests.runtime.providers.skips import linux

if TYPE_CHECKING:
    from tests.runtime.providers.conftest import Machine

PREDICT = """
import sys, threading
import numpy as np, onnxruntime, scgenept_rt as sgr
from scgenept_rt.predictor.pipeline import BatchPipeline

def run(session, outputs, feed):
    print("values at", feed["values"].ctypes.data, "flags at", feed["pert_flags"].ctypes.data, file=sys.stderr)
    return [feed["values"] + feed["pert_flags"]]
onnxruntime.InferenceSession.run = run
bundle, provider, device = sys.argv[1:]
model = sgr.load(bundle, provider=provider, device_id=int(device) if device else None)

def predict():
    with BatchPipeline(model.session, 200, 24) as pipeline:
        for batch in range(3):
            pipeline.buffers.values[:] = batch
            pipeline.buffers.pert_flags[:] = 10
            pipeline.start(200)
            print((pipeline.result() == batch + 10).all())
predict()
thread = threading.Thread(target=predict)
thread.start(); thread.join()
"""


def predict(
    machine: Machine, bundle: Path, provider: str = "cuda", device: str = "1", **environment: str
) -> list[list[str]]:
    done = machine.run(PREDICT, str(bundle), provider, device, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-6:] == ["True"] * 6
    return [line.split() for line in done.stderr.splitlines()]


@pytest.fixture
def bundle(oracle_bundle: Callable[[str], Path]) -> Path:
    return oracle_bundle("scgpt")


@linux
def test_batches_lie_in_pinned_memory_while_they_run(gpu_machine: Machine, bundle: Path) -> None:
    lines = predict(gpu_machine, bundle)
    half = len(lines) // 2
    assert [line[0] for line in lines[half:]] == [line[0] for line in lines[:half]]
    retained, *pinned = lines[:4]
    assert retained == ["retained", "1"]
    batches = lines[4:7]
    pages = -(-200 * 24 * 12 // 4096) * 4096
    starts = {int(line[3]) for line in pinned}
    assert [line[:2] for line in pinned] == [["pinned", str(pages)]] * 3
    for batch in batches:
        values, flags = int(batch[2]), int(batch[5])
        assert flags in starts
        assert values == flags + 200 * 24 * 8
    assert lines[7:11] == [["unpinned", *line[1:]] for line in pinned] + [["released", "1"]]


@linux
@pytest.mark.parametrize("failing", ["NO_CONTEXT", "NOT_PINNED"])
def test_what_cannot_be_pinned_works_as_well(gpu_machine: Machine, bundle: Path, failing: str) -> None:
    words = {line[0] for line in predict(gpu_machine, bundle, **{failing: "1"})}
    assert words == {"values"} | ({"retained", "released"} if failing == "NOT_PINNED" else set())


HOLD = """
import gc, sys, weakref
import scgenept_rt.providers.pinned_memory as pinned_memory
from scgenept_rt.providers.pinned_memory import PinnedMemory, whole_pages

class Piece:  # stands for the memory, whose life can be watched
    def __init__(self, memory):
        self.memory = memory
    def __getattr__(self, name):
        return getattr(self.memory, name)

piece = Piece(whole_pages(10))
alive = weakref.ref(piece)
with PinnedMemory(0, piece):
    pass
del piece
gc.collect()
print(alive() is not None)
"""


@linux
def test_memory_that_could_not_be_unpinned_is_not_let_go(gpu_machine: Machine) -> None:
    assert gpu_machine.run(HOLD, NOT_UNPINNED="1").stdout.strip() == "True"
    assert gpu_machine.run(HOLD).stdout.strip() == "False"


@linux
def test_a_driver_that_lacks_a_function_is_left_alone(gpu_machine: Machine, bundle: Path) -> None:
    source = DRIVER.replace("cuMemHostRegister_v2", "cuMemHostRegister")
    defines = {"CAPABILITIES": "{9,0},{8,9},", "VERSION": "13000", "INIT": "0"}
    gpu_machine.compile(gpu_machine.libraries / "libcuda.so.1", source, defines=defines)
    assert {line[0] for line in predict(gpu_machine, bundle)} == {"values"}


@linux
def test_nothing_is_pinned_for_the_cpu(gpu_machine: Machine, bundle: Path) -> None:
    assert {line[0] for line in predict(gpu_machine, bundle, "cpu", "")} == {"values"}


def test_no_driver_is_no_error() -> None:
    with PinnedMemory(None, whole_pages(10)) as nothing, PinnedMemory(10**6, whole_pages(10)) as no_such_gpu:
        assert nothing.n_pinned == no_such_gpu.n_pinned == 0


@pytest.mark.parametrize("n_bytes", [0, 1, mmap.PAGESIZE, mmap.PAGESIZE + 1, 10**6])
def test_whole_pages_are_zeros_and_share_no_page(n_bytes: int) -> None:
    memory = whole_pages(n_bytes)
    assert memory.ctypes.data % mmap.PAGESIZE == 0
    assert memory.nbytes % mmap.PAGESIZE == 0
    assert n_bytes <= memory.nbytes < n_bytes + mmap.PAGESIZE or n_bytes == 0
    assert not memory.any()
    memory[:] = 1  # the whole of it is there
    assert np.all(memory == 1)
