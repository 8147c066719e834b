"""The rate at which this machine multiplies matrices in ONNX Runtime: what the forms' own rates are compared with."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from scgenept_rt.files.machine_limits import cpu_threads
from scgenept_rt.providers import ProviderChoice, import_onnxruntime

_CPU_SIZE, _GPU_SIZE = 4096, 8192
_MIN_RUNS, _MIN_SECONDS = 3, 0.5


class Bound:
    """A session whose inputs and output stay on the device."""

    def __init__(self, session: Any, feed: dict[str, np.ndarray], output: str, device: str, device_id: int = 0) -> None:
        ort = import_onnxruntime()
        self._session, self._binding = session, session.io_binding()
        # Arrays are kept: on the CPU theirs is the memory, and not every version of ONNX Runtime keeps what is bound.
        self._kept = [(ort.OrtValue.ortvalue_from_numpy(array, device, device_id), array) for array in feed.values()]
        for name, (value, _) in zip(feed, self._kept, strict=True):
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_output(output, device, device_id)

    def run(self) -> None:
        """Run, and wait for the device."""
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()

    def output(self) -> np.ndarray:
        """Run, and return the output."""
        self.run()
        return np.array(self._binding.get_outputs()[0].numpy())


class MatrixProduct:
    """A product of two square matrices, on the device and with the threads that the network runs on.

    One factor is a constant, as weights are, which ONNX Runtime packs when it loads the graph.
    """

    def __init__(self, choice: ProviderChoice) -> None:
        onnxruntime = import_onnxruntime()
        on_gpu = choice.traits.on_gpu
        # The CPU provider has no fp16 product: it casts, and its ceiling is that of fp32.
        self.precision = choice.precision if on_gpu else "fp32"
        self.size = _GPU_SIZE if on_gpu else _CPU_SIZE
        # Values of either sign near zero: sums stay in the range of fp16.
        a, b = np.random.default_rng(0).standard_normal((2, self.size, self.size), dtype=np.float32)
        if self.precision == "fp16":
            a, b = a.astype(np.float16), b.astype(np.float16)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = choice.engine["threads"] or cpu_threads()
        session = onnxruntime.InferenceSession(
            _graph(b), options, providers=[(choice.traits.ort_name, dict(choice.ort_options))], enable_fallback=0
        )
        self._bound = Bound(session, {"a": a}, "c", "cuda" if on_gpu else "cpu", choice.device_id or 0)

    def best_gflops(self) -> float:
        """Run the product for about half a second and return the best rate; the first run is not counted."""
        self._bound.run()
        best, started, runs = float("inf"), time.perf_counter(), 0
        while runs < _MIN_RUNS or time.perf_counter() - started < _MIN_SECONDS:
            begin = time.perf_counter()
            self._bound.run()
            best = min(best, time.perf_counter() - begin)
            runs += 1
        return 2 * self.size**3 / best / 1e9


def _graph(b: np.ndarray) -> bytes:
    kind = TensorProto.FLOAT if b.dtype == np.float32 else TensorProto.FLOAT16
    a, c = (helper.make_tensor_value_info(name, kind, b.shape) for name in ("a", "c"))
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = helper.make_graph([node], "matrix_product", [a], [c], [numpy_helper.from_array(b, "b")])
    return onnx.helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
