"""The CUDA provider's session, on a machine whose ONNX Runtime is a stand-in that keeps what it is told like CUDA.

A recorded graph reads and writes the places that it was recorded with, whatever is bound later, and in another thread
than the one that recorded it there is no graph.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.runtime.providers.skips import linux

if TYPE_CHECKING:
    from tests.runtime.providers.conftest import Machine

RECORDING = """
import json, sys, threading
import numpy as np, onnxruntime

class RunOptions:
    def add_run_config_entry(self, key, value):
        assert key == "gpu_graph_id"
        self.graph = value

runs, devices = [], []
def network(values, pert_flags, gene_index):
    return values * 2 + pert_flags + gene_index
def run(session, outputs, feed, options=None):
    runs.append(["plain", options.graph if options else None, threading.current_thread().name])
    return [network(**feed)]
def run_with_iobinding(session, binding, options):
    session.__dict__.setdefault("graphs", {})
    key = (options.graph, threading.get_ident())
    recorded = session.graphs.setdefault(key, binding)
    output = recorded.outputs["predicted"]
    devices.append(output.device)
    output.array[...] = network(**{name: value.array for name, value in recorded.inputs.items()})
    runs.append(["graph", options.graph, threading.current_thread().name])
onnxruntime.RunOptions = RunOptions
session = onnxruntime.InferenceSession
session.run, session.run_with_iobinding = run, run_with_iobinding
"""
PREDICT = (
    RECORDING
    + """
import scgenept_rt as sgr
bundle, device, cuda_graphs = sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True"
model = sgr.load(bundle, provider="cuda", device_id=device, cuda_graphs=cuda_graphs)
print(json.dumps(runs))
rng = np.random.default_rng(0)
def predict(n_cells):
    values = rng.random((n_cells, 24), dtype=np.float32)
    flags = np.zeros((n_cells, 24), np.int64)
    flags[:, 3] = 1
    got = model.predict_array(values, model.gene_names[3] + "+ctrl")
    assert np.array_equal(got, network(values, flags, np.arange(24)).astype(np.float32)), n_cells
for n_cells in (1, 1, 3, 1, 40):
    thread = threading.Thread(target=predict, args=(n_cells,))  # as a service calls: from many threads
    thread.start(); thread.join()
print(json.dumps([runs, devices]))
"""
)


@linux
def test_small_batches_are_recorded_in_one_thread(gpu_machine: Machine, bundle: Path) -> None:
    done = gpu_machine.run(PREDICT, str(bundle), "1", "True")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    opened, recorded, found = done.stdout.splitlines()
    assert opened == "session ['CUDAExecutionProvider'] {'device_id': '1', 'enable_cuda_graph': '1'}"
    at_loading = json.loads(recorded)
    assert [run[:2] for run in at_loading] == [
        run for number in "123" for run in [["plain", "-1"]] * 2 + [["graph", number]] * 2
    ]
    runs, devices = json.loads(found)
    assert len({thread for _, _, thread in runs}) == 1
    assert {tuple(device) for device in devices} == {("cuda", 1)}
    # Three cells are padded to four: a recorded size.
    later = [run[:2] for run in runs[len(at_loading) :]]
    assert later == [["graph", "1"]] * 2 + [["graph", "3"], ["graph", "1"], ["plain", "-1"]]


@linux
def test_graphs_that_cannot_be_recorded_are_an_error_of_loading(gpu_machine: Machine, bundle: Path) -> None:
    code = (
        RECORDING
        + """
import scgenept_rt as sgr
def run_with_iobinding(session, binding, options):
    raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing")
onnxruntime.InferenceSession.run_with_iobinding = run_with_iobinding
try:
    sgr.load(sys.argv[1], provider="cuda", cuda_graphs=True)
except sgr.ScgeneptError as error:
    print(error)
"""
    )
    done = gpu_machine.run(code, str(bundle))
    assert done.returncode == 0, done.stderr
    message = done.stdout.splitlines()[-1]
    assert "CUDA graphs cannot be recorded (CUDA failure 900" in message
    assert "load it without them" in message


@linux
def test_warming_up_runs_the_sizes_that_will_be_needed(gpu_machine: Machine, bundle: Path) -> None:
    code = (
        RECORDING
        + """
import scgenept_rt as sgr
model = sgr.load(sys.argv[1], provider="cuda", cuda_graphs=True)
runs.clear()
model.warm_up([1, 3, 40])
print(json.dumps([run[:2] for run in runs]))
"""
    )
    done = gpu_machine.run(code, str(bundle))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [["graph", "1"], ["graph", "3"], ["plain", "-1"]]


@linux
def test_without_being_asked_nothing_is_recorded(gpu_machine: Machine, bundle: Path) -> None:
    done = gpu_machine.run(PREDICT, str(bundle), "0", "False")
    assert done.returncode == 0, done.stderr
    opened, at_loading, found = done.stdout.splitlines()
    assert opened == "session ['CUDAExecutionProvider'] {'device_id': '0'}"
    assert json.loads(at_loading) == []
    runs, _ = json.loads(found)
    assert [run[:2] for run in runs] == [["plain", None]] * 5


@linux
@pytest.mark.parametrize("provider", ["tensorrt", "cpu"])
def test_another_provider_is_refused(gpu_machine: Machine, bundle: Path, tmp_path: Path, provider: str) -> None:
    gpu_machine.add_library("libnvinfer.so.10")
    command = ["verify", str(bundle), "--provider", provider, "--cuda-graphs"]
    done = gpu_machine.run("from scgenept_rt.cli import main; main()", *command, SCGENEPT_RT_CACHE=str(tmp_path))
    assert done.returncode == 1, done.stderr
    assert f"not for {provider}" in done.stderr
    assert "Traceback" not in done.stderr


@linux
def test_verify_runs_recorded_batches_too(gpu_machine: Machine, bundle: Path) -> None:
    command = ["verify", str(bundle), "--provider", "cuda", "--precision", "fp16", "--cuda-graphs"]
    code = RECORDING + "from scgenept_rt.cli import main\ntry:\n    main()\nfinally:\n    print(json.dumps(runs))"
    done = gpu_machine.run(code, *command)
    assert done.returncode == 1, done.stderr  # the stand-in's network is not the model's
    batch, _, alone, _, found = done.stdout.splitlines()
    assert batch.startswith("MISS  cuda fp16, ort_fp16.onnx against reference.npz, ")
    assert alone == f"{batch}, one at a time"
    runs = [run[:2] for run in json.loads(found)]
    # Recorded at loading: one cell, of the genes of the reference and of the model, which are the same here.
    assert runs[:4] == [["plain", "-1"]] * 2 + [["graph", "1"]] * 2
    after = runs[4:]
    assert after[0] == ["plain", "-1"]
    assert after[1:] == [["graph", "1"]] * (len(after) - 1)
    assert len(after) > 2
