"""Write the graphs that `scgenept-rt benchmark` measures the machine's rate of matrix products with (needs onnx)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

DIRECTORY = Path(__file__).parents[1] / "runtime" / "scgenept_rt" / "benchmark"
EDGE = 64


def matrix_product(kind: TensorProto.DataType) -> onnx.ModelProto:
    """Return c = a @ b, [n, n] each, where b is a tile of random numbers repeated to the shape of a.

    With n fixed, ONNX Runtime folds b to a constant and packs it as it packs weights. It is made in fp32 and cast.
    """
    tile = np.random.default_rng(0).standard_normal((EDGE, EDGE), dtype=np.float32)
    nodes = [
        helper.make_node("Shape", ["a"], ["shape"]),
        helper.make_node("Div", ["shape", "edge"], ["repeats"]),
        helper.make_node("Tile", ["tile", "repeats"], ["tiled"]),
        helper.make_node("Cast", ["tiled"], ["b"], to=kind),
        helper.make_node("MatMul", ["a", "b"], ["c"]),
    ]
    a, c = (helper.make_tensor_value_info(name, kind, ["n", "n"]) for name in ("a", "c"))
    edge = np.full(2, EDGE, dtype=np.int64)
    weights = [numpy_helper.from_array(tile, "tile"), numpy_helper.from_array(edge, "edge")]
    graph = helper.make_graph(nodes, "matrix_product", [a], [c], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    for precision, kind in (("fp32", TensorProto.FLOAT), ("fp16", TensorProto.FLOAT16)):
        onnx.save(matrix_product(kind), DIRECTORY / f"matmul_{precision}.onnx")
