from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from scgenept_rt.benchmark.matrix_rate import MatrixProduct, matrix_product_model
from scgenept_rt.providers import select_provider


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_matrix_product_model_is_a_valid_onnx_model(dtype: type[np.floating]):
    onnx = pytest.importorskip("onnx")
    b = np.random.default_rng(0).standard_normal((130, 130)).astype(dtype)
    model = onnx.load_model_from_string(matrix_product_model(b))
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    (weights,) = model.graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(weights), b)
    kinds = {np.float32: onnx.TensorProto.FLOAT, np.float16: onnx.TensorProto.FLOAT16}
    values = [*model.graph.input, *model.graph.output]
    assert [value.name for value in values] == ["a", "c"]
    assert {value.type.tensor_type.elem_type for value in values} == {kinds[dtype]}


def test_matrix_product_multiplies():
    a, b = (np.random.default_rng(seed).standard_normal((300, 300), dtype=np.float32) for seed in (0, 1))
    session = onnxruntime.InferenceSession(matrix_product_model(b), providers=["CPUExecutionProvider"])
    (product,) = session.run(None, {"a": a})
    np.testing.assert_allclose(product, a @ b, rtol=1e-4, atol=1e-3)


def test_matrix_rate_is_work_over_time():
    rate = MatrixProduct(select_provider("cpu"), threads=1, size=64).best_rate()
    assert rate.size == 64
    assert 0.01 < rate.gflops < 1e4
