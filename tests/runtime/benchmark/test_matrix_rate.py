from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from scgenept_rt.benchmark import matrix_rate
from scgenept_rt.benchmark.matrix_rate import MatrixProduct
from scgenept_rt.providers import select_provider


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", np.float32), ("fp16", np.float16)])
def test_the_graph_multiplies_by_a_constant_matrix(precision: str, dtype: type[np.floating]):
    graph = Path(matrix_rate.__file__).with_name(f"matmul_{precision}.onnx")
    options = onnxruntime.SessionOptions()
    options.add_free_dimension_override_by_name("n", 192)
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    (b,) = session.run(None, {"a": np.eye(192, dtype=dtype)})
    np.testing.assert_array_equal(b, np.tile(b[:64, :64], (3, 3)))
    assert np.abs(b).max() > 1
    a = np.random.default_rng(0).standard_normal((192, 192), dtype=np.float32).astype(dtype)
    (product,) = session.run(None, {"a": a})
    expected = a.astype(np.float64) @ b.astype(np.float64)
    np.testing.assert_allclose(product, expected, rtol=0, atol=1e-3 if precision == "fp32" else 0.1)


def test_matrix_rate_is_work_over_time():
    rate = MatrixProduct(select_provider(provider="cpu", threads=1), size=64).best_rate()
    assert rate.size == 64
    assert 0.01 < rate.gflops < 1e4
