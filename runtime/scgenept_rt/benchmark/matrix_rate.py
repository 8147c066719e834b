"""The rate at which this machine multiplies matrices: what the network's own rate is compared with."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle import Precision
from scgenept_rt.providers import ProviderChoice, cpu_threads, import_onnxruntime

_CPU_SIZE, _GPU_SIZE = 4096, 8192
_MIN_RUNS, _MIN_SECONDS = 3, 0.5
_ELEMENT_TYPES = {"float32": 1, "float16": 10}  # onnx.TensorProto.DataType
_LOG_ERRORS_ONLY = 3


@dataclass(frozen=True)
class MatrixRate:
    """The best rate of one square matrix product, GFLOP/s, of `size` x `size` matrices in `precision`."""

    gflops: float
    size: int
    precision: Precision


class MatrixProduct:
    """A matrix product in ONNX Runtime, on the provider and with the threads that the network runs on."""

    def __init__(self, choice: ProviderChoice, *, threads: int | None = None, size: int | None = None) -> None:
        """Prepare the product.

        Parameters
        ----------
        choice
            The provider, from `select_provider`.
        threads
            Threads of the CPU provider; None for as many as this process may use.
        size
            Rows and columns; None for what keeps the provider busy.
        """
        onnxruntime = import_onnxruntime()
        on_cpu = choice.name == "cpu"
        # The CPU provider has no fp16 product: it casts, and its ceiling is that of fp32.
        self._precision: Precision = "fp32" if on_cpu else choice.precision
        self._size = size or (_CPU_SIZE if on_cpu else _GPU_SIZE)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _LOG_ERRORS_ONLY
        options.intra_op_num_threads = threads or cpu_threads()
        device, device_id = ("cpu", 0) if on_cpu else ("cuda", choice.device_id or 0)
        rng = np.random.default_rng(0)
        dtype = np.float32 if self._precision == "fp32" else np.float16
        # Values of either sign near zero: sums stay in the range of fp16.
        a, b = (rng.standard_normal((self._size, self._size), dtype=np.float32).astype(dtype) for _ in range(2))
        self._session = onnxruntime.InferenceSession(matrix_product_model(b), options, providers=choice.ort_providers)
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


def matrix_product_model(b: NDArray[Any]) -> bytes:
    """Return an ONNX model with one MatMul, `c = a @ b`, of square matrices, `b` being constant as weights are.

    Written byte by byte in protobuf's wire format, as the runtime has no onnx package: field numbers are those of
    onnx.proto (ModelProto 1 ir_version, 7 graph, 8 opset_import; GraphProto 1 node, 2 name, 5 initializer, 11 input,
    12 output; TensorProto 1 dims, 2 data_type, 8 name, 9 raw_data).

    Parameters
    ----------
    b
        Square matrix, float32 or float16.
    """
    kind = _number(2, _ELEMENT_TYPES[b.dtype.name])

    def matrix(name: str) -> bytes:
        dimension = _message(1, _number(1, len(b)))  # shape.dim.dim_value
        tensor = _number(1, _ELEMENT_TYPES[b.dtype.name]) + _message(2, dimension + dimension)
        return _message(1, name.encode()) + _message(2, _message(1, tensor))  # ValueInfoProto: name, type.tensor_type

    values = b.astype(b.dtype.newbyteorder("<"), copy=False).tobytes()
    weights = _number(1, len(b)) * 2 + kind + _message(8, b"b") + _message(9, values)
    node = _message(1, b"a") + _message(1, b"b") + _message(2, b"c") + _message(4, b"MatMul")
    graph = _message(1, node) + _message(2, b"matrix_product") + _message(5, weights)
    graph += _message(11, matrix("a")) + _message(12, matrix("c"))
    return _number(1, 8) + _message(7, graph) + _message(8, _number(2, 13))


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*encoded, value])
