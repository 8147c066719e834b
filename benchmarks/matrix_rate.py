"""The rate at which this machine multiplies matrices in ONNX Runtime: what the forms' own rates are compared with."""

from __future__ import annotations

import time

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from shared import Bound, open_graph

_CPU_SIZE, _GPU_SIZE = 4096, 8192
_MIN_RUNS, _MIN_SECONDS = 3, 0.5


class MatrixProduct:
    """A product of two square matrices, on the device and with the threads that the network runs on.

    One factor is a constant, as weights are, which ONNX Runtime packs when it loads the graph. On a GPU both are fp16;
    the CPU provider has no such product: it casts, and its ceiling is that of fp32.
    """

    def __init__(self, device: str) -> None:
        self.size, self.precision = (_CPU_SIZE, "fp32") if device == "cpu" else (_GPU_SIZE, "fp16")
        # Values of either sign near zero: sums stay in the range of fp16.
        a, b = np.random.default_rng(0).standard_normal((2, self.size, self.size), dtype=np.float32)
        kind = TensorProto.FLOAT
        if self.precision == "fp16":
            a, b, kind = a.astype(np.float16), b.astype(np.float16), TensorProto.FLOAT16
        given, product = (helper.make_tensor_value_info(name, kind, b.shape) for name in ("a", "c"))
        node = helper.make_node("MatMul", ["a", "b"], ["c"])
        graph = helper.make_graph([node], "matrix_product", [given], [product], [numpy_helper.from_array(b, "b")])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        self._bound = Bound(open_graph(model.SerializeToString(), device), {"a": a}, "c", device)

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
