"""Exact rewrites of an `ort` graph, to be timed before any of them becomes part of the export.

max  relu(x W + b) as max(x W, -b), with b W2 added to the next bias: one kernel instead of two
q    the norm before a layer absorbs the query bias: its shift grows by d with d Wq = b
dec  the norm before the decoder absorbs its first bias
id   attention replaced by the sum of its inputs: everything but attention (wrong outputs, on purpose)
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper
from onnx import numpy_helper as nh


def rewrite(source: str, target: str, what: set[str], exact: str | None = None) -> float:
    """Rewrite the graph `source` to `target`; return the largest change of a norm's shift.

    `exact` is the fp32 graph of the same weights, from which the new biases of an fp16 graph are computed.
    """
    model = onnx.load(source)
    graph = model.graph
    initializers = {each.name: each for each in graph.initializer}
    weights_of = onnx.load(exact).graph if exact else graph
    weights = {each.name: nh.to_array(each) for each in weights_of.initializer}
    weights = {name: array.astype(np.float64) for name, array in weights.items() if array.dtype.kind == "f"}
    users: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    makers = {name: node for node in graph.node for name in node.output}
    changed: dict[str, np.ndarray] = {}
    dropped, shifts = [], [0.0]

    def add(name: str, value: np.ndarray) -> None:
        changed[name] = changed.get(name, weights[name]) + value

    def shift_of(tensor: str) -> str:
        node = makers[tensor]
        return node.input[3] if node.op_type == "SkipLayerNormalization" else node.input[2]

    def absorb(weight: str, bias: str) -> tuple[np.ndarray, str]:
        product = users[weight][0]
        addition = users[product.output[0]][0]
        assert (product.op_type, addition.op_type) == ("MatMul", "Add"), (product.op_type, addition.op_type)
        d = np.linalg.solve(weights[weight].T, weights[bias])
        shifts.append(float(np.abs(d).max()))
        add(shift_of(product.input[0]), d)
        for node in users[addition.output[0]]:
            for i, name in enumerate(node.input):
                if name == addition.output[0]:
                    node.input[i] = product.output[0]
        dropped.append(addition)
        return d, product.input[0]

    def merge_relu(bias: str, next_bias: str, next_weight: str) -> None:
        addition = users[bias][0]
        relu = users[addition.output[0]][0]
        assert (addition.op_type, relu.op_type) == ("Add", "Relu"), (addition.op_type, relu.op_type)
        addition.op_type, addition.output[0] = "Max", relu.output[0]
        dropped.append(relu)
        changed[bias] = -weights[bias]
        add(next_bias, weights[bias] @ weights[next_weight])

    for i in range(sum(name.endswith("linear1.weight") for name in weights)):
        layer = f"layers.{i}."
        if "q" in what:
            d, _ = absorb(layer + "query.weight", layer + "query.bias")
            add(layer + "output_bias", -d - (d @ weights[layer + "value.weight"]) @ weights[layer + "output.weight"])
        if "max" in what:
            merge_relu(layer + "linear1.bias", layer + "linear2_bias", layer + "linear2.weight")
    if "max" in what and "value_encoder.shift" in weights:
        merge_relu("value_encoder.shift", "value_encoder.linear2.bias", "value_encoder.linear2.weight")
    if "dec" in what:
        absorb("decoder.0.weight", "decoder.0.bias")
    for node in dropped:
        graph.node.remove(node)
    for name, value in changed.items():
        dtype = nh.to_array(initializers[name]).dtype
        initializers[name].CopyFrom(nh.from_array(value.astype(dtype), name))
    if "id" in what:
        for node in [each for each in graph.node if each.op_type == "MultiHeadAttention"]:
            at = list(graph.node).index(node)
            graph.node.remove(node)
            graph.node.insert(at, helper.make_node("Add", [node.input[0], node.input[1]], ["kv" + node.output[0]]))
            graph.node.insert(at + 1, helper.make_node("Add", ["kv" + node.output[0], node.input[2]], [node.output[0]]))
    used = {name for node in graph.node for name in node.input}
    for each in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(each)
    del graph.value_info[:]
    onnx.save(model, target)
    return max(shifts)
