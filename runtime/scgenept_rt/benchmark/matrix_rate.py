"""The rate at which this machine multiplies matrices: what the network's own rate is compared with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scgenept_rt.bundle import Precision
from scgenept_rt.providers import TRAITS, ProviderChoice, cpu_threads, import_onnxruntime

_CPU_SIZE, _GPU_SIZE = 4096, 8192
_MIN_RUNS, _MIN_SECONDS = 3, 0.5
_LOG_ERRORS_ONLY = 3


@dataclass(frozen=True)
class MatrixRate:
    """The best rate of one square matrix product, GFLOP/s, of `size` x `size` matrices in `precision`."""

    gflops: float
    size: int
    precision: Precision


class MatrixProduct:
    """A matrix product in ONNX Runtime, on the device and with the threads that the network runs on.

    The graphs `matmul_fp32.onnx` and `matmul_fp16.onnx` (from `benchmarks/make_matrix_products.py`) compute
    c = a @ b [n, n], with b a constant as weights are: a tile of 64 x 64, repeated when the graph is loaded.
    """

    def __init__(self, choice: ProviderChoice, *, size: int | None = None) -> None:
        """Prepare the product.

        Parameters
        ----------
        choice
            A provider of ONNX Runtime itself, from `select_provider`.
        size
            Rows and columns, a multiple of 64; None for what keeps the provider busy.
        """
        onnxruntime = import_onnxruntime()
        on_gpu = choice.traits.on_gpu
        # The CPU provider has no fp16 product: it casts, and its ceiling is that of fp32.
        self._precision: Precision = choice.precision if on_gpu else "fp32"
        self._size = size or (_GPU_SIZE if on_gpu else _CPU_SIZE)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _LOG_ERRORS_ONLY
        options.intra_op_num_threads = choice.engine["threads"] or cpu_threads()
        options.add_free_dimension_override_by_name("n", self._size)
        # TensorRT's device is CUDA's, which has no engine to build.
        provider = TRAITS["cuda" if on_gpu else "cpu"].ort_name
        graph = Path(__file__).with_name(f"matmul_{self._precision}.onnx")
        self._session = onnxruntime.InferenceSession(
            str(graph), options, providers=[(provider, dict(choice.ort_options))], enable_fallback=0
        )
        dtype = np.float32 if self._precision == "fp32" else np.float16
        # Values of either sign near zero: sums stay in the range of fp16.
        a = np.random.default_rng(0).standard_normal((self._size, self._size), dtype=np.float32).astype(dtype)
        device, device_id = ("cuda", choice.device_id or 0) if on_gpu else ("cpu", 0)
        self._binding = self._session.io_binding()
        # Kept: on the CPU it is the array's own memory, and not every version of ONNX Runtime keeps what is bound.
        self._input = onnxruntime.OrtValue.ortvalue_from_numpy(a, device, device_id), a
        self._binding.bind_ortvalue_input("a", self._input[0])
        self._binding.bind_output("c", device, device_id)

    def best_rate(self) -> MatrixRate:
        """Run the product for about half a second and return the best rate; the first run is not counted."""
        self._run()
        best, started, runs = float("inf"), time.perf_counter(), 0
        while runs < _MIN_RUNS or time.perf_counter() - started < _MIN_SECONDS:
            begin = time.perf_counter()
            self._run()
            best = min(best, time.perf_counter() - begin)
            runs += 1
        return MatrixRate(2 * self._size**3 / best / 1e9, self._size, self._precision)

    def _run(self) -> None:
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
