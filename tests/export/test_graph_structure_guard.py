"""What keeps the graphs fast, checked without a clock, as a timed test on a shared machine fails by chance.

Operators before and after ONNX Runtime's optimiser, which provider runs them, the arithmetic of a run, and the bytes of
a bundle: each of these differs only if a graph has changed.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from scgenept_export.onnx_graph import graph_file_name
from scgenept_rt.benchmark import encoder_flops
from scgenept_rt.bundle import Bundle, Precision, Target

GO_C = "scgenept_go_c_gpt_concat"
N_LAYERS, N_CELLS, N_GENES, WIDTH = 3, 2, 24, 64

GRAPHS: list[tuple[Target, Precision]] = [
    ("ort", "fp32"),
    ("ort", "fp16"),
    ("portable", "fp32"),
    ("portable", "fp16"),
    ("merged", "fp32"),
]
LAYER: Mapping[Target, Counter[str]] = {
    # MatMul: queries, keys, values, output and two linears; Max: the first linear's bias and ReLU.
    "ort": Counter(MatMul=6, Max=1, MultiHeadAttention=1, SkipLayerNormalization=2),
    # TensorRT's importer wants queries, keys and values by head, and gives attended values by head: four Transposes.
    # Two Adds: of log(count) to the keys, and of what multiplies it to the queries.
    "merged": Counter(MatMul=6, Add=2, Max=1, MultiHeadAttention=1, SkipLayerNormalization=2),
    "portable": Counter(MatMul=6, Add=4, Max=1, Attention=1, LayerNormalization=2, Reshape=4, Transpose=4),
}
"""Every operator of one transformer layer: no Cast, and no Transpose beyond what the target needs."""

# Gene table and flag table; the value encoder; the sum and its norm; the decoder.
OUTSIDE = Counter(
    Gather=2, Unsqueeze=1, Clip=1, Mul=1, Max=1, MatMul=4, Add=6, LayerNormalization=2, LeakyRelu=2, Squeeze=1
)
HEAD_SIZES = Counter(Shape=2, Concat=2)
"""The portable graph computes the shape by head once, for all layers."""
LOG_COUNT = Counter(Unsqueeze=1, Mul=1)
"""The merged graph places log(count) in the channels of all heads once, for all layers."""
ELSEWHERE: Mapping[Target, Counter[str]] = {"ort": Counter(), "merged": LOG_COUNT, "portable": HEAD_SIZES}

BORDER_CASTS: Mapping[Precision, Counter[str]] = {"fp32": Counter(), "fp16": Counter(Cast=2)}


@dataclass(frozen=True)
class Run:
    """A graph on ONNX Runtime's CPU provider: what its optimiser made of it, and the profile of one batch."""

    optimised: Counter[str]
    kernels: list[dict[str, Any]]


def operators(path: Path) -> Counter[str]:
    return Counter(node.op_type for node in onnx.load(path).graph.node)


@pytest.fixture(scope="module")
def run(
    oracle_bundle: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Target, Precision], Run]:
    directory = tmp_path_factory.mktemp("optimised")

    def run_graph(target: Target, precision: Precision) -> Run:
        name = graph_file_name(precision, target)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(directory / name)
        options.enable_profiling = True
        options.profile_file_prefix = str(directory / "profile")
        session = onnxruntime.InferenceSession(
            str(oracle_bundle(GO_C) / name), options, providers=["CPUExecutionProvider"]
        )
        values = np.ones((N_CELLS, N_GENES), np.float32)
        flags = np.zeros((N_CELLS, N_GENES), np.int64)
        session.run(None, {"values": values, "pert_flags": flags, "gene_index": np.arange(N_GENES)})
        events = json.loads(Path(session.end_profiling()).read_text())
        kernels = [event["args"] for event in events if event["name"].endswith("_kernel_time")]
        return Run(operators(directory / name), kernels)

    return run_graph


@pytest.mark.parametrize(("target", "precision"), GRAPHS)
def test_exported_operators_by_layer(
    target: Target, precision: Precision, oracle_bundle: Callable[[str], Path]
) -> None:
    expected = OUTSIDE + BORDER_CASTS[precision] + ELSEWHERE[target]
    for _ in range(N_LAYERS):
        expected += LAYER[target]
    found = operators(oracle_bundle(GO_C) / graph_file_name(precision, target))
    if target == "merged":  # what widens the weights: the exporter computes it if they are small, else who loads them
        found -= Counter(Reshape=4 * N_LAYERS, Pad=2 * N_LAYERS)
    assert found == expected


@pytest.mark.parametrize("target", ["ort", "merged"])
def test_the_optimiser_leaves_the_fused_layers_as_they_are(
    target: Target, run: Callable[[Target, Precision], Run]
) -> None:
    optimised = run(target, "fp32").optimised
    for name in ("MultiHeadAttention", "MatMul", "Max"):
        assert optimised[name] == N_LAYERS * LAYER[target][name] + OUTSIDE[name]
    assert optimised["SkipLayerNormalization"] >= N_LAYERS * LAYER[target]["SkipLayerNormalization"]
    # Among them what widens the merged graph's weights: it is computed once, at loading.
    absent = {"Cast", "Transpose", "Reshape", "Pad", "Softmax", "Shape", "Concat", "Expand", "Where"}
    assert absent.isdisjoint(optimised)
    # It may fuse more, it must not add: fusing the sum's norm makes it one less today.
    assert optimised.total() <= N_LAYERS * LAYER[target].total() + OUTSIDE.total() + ELSEWHERE[target].total()


@pytest.mark.parametrize("target", ["ort", "portable"])
def test_a_run_does_the_arithmetic_of_the_formula_and_no_more(
    target: Target, run: Callable[[Target, Precision], Run], oracle_bundle: Callable[[str], Path]
) -> None:
    done = 0
    for kernel in run(target, "fp32").kernels:
        shapes = [next(iter(shape.values())) for shape in kernel["input_type_shape"]]
        (output,) = kernel["output_type_shape"][0].values()
        if kernel["op_name"] in ("MatMul", "Gemm", "FusedMatMul"):
            done += 2 * prod(output) * shapes[0][-1]
        elif kernel["op_name"] == "MultiHeadAttention":
            batch, queries, width = shapes[0]
            done += 4 * batch * queries * shapes[1][1] * width
        elif kernel["op_name"] == "Attention":
            batch, heads, queries, head_width = shapes[0]
            done += 4 * batch * heads * queries * shapes[1][2] * head_width
    dimensions = Bundle.open(oracle_bundle(GO_C)).manifest.dimensions
    # The value encoder's second linear and the decoder's three, which `encoder_flops` leaves out.
    outside = 2 * N_GENES * WIDTH * (3 * WIDTH + 1)
    assert done == N_CELLS * (encoder_flops(dimensions, N_GENES) + outside)


def parameter_count(n_genes: int, width: int, n_layers: int, d_ff: int) -> int:
    """Numbers that a folded network of this size needs, a gene table and no vocabulary among them."""
    tables = n_genes * width + 2 * width
    # Scale and shift of the first linear, the second linear, norm; the norm of the sum.
    embedding = 2 * width + (width**2 + width) + 2 * width + 2 * width
    # Biases: of the output and of both linear layers; norms.
    layer = 4 * width**2 + width + 2 * width * d_ff + d_ff + width + 4 * width
    decoder = 2 * (width**2 + width) + width + 1
    return tables + embedding + n_layers * layer + decoder


def test_what_a_run_allocates_is_linear_in_the_genes(
    run: Callable[[Target, Precision], Run], oracle_bundle: Callable[[str], Path]
) -> None:
    allocated = [int(kernel["output_size"]) for kernel in run("ort", "fp32").kernels]
    one = N_CELLS * N_GENES * WIDTH * 4
    assert Bundle.open(oracle_bundle(GO_C)).manifest.dimensions.d_ff == WIDTH
    assert max(allocated) == one, "a tensor of all pairs of genes, or a wider one than the network's"
    assert sum(allocated) <= one * (N_LAYERS * LAYER["ort"].total() + OUTSIDE.total())


@pytest.mark.parametrize(("target", "precision"), [graph for graph in GRAPHS if graph[0] != "merged"])
def test_a_graph_holds_the_folded_weights_once_and_nothing_else(
    target: Target, precision: Precision, oracle_bundle: Callable[[str], Path]
) -> None:
    path = oracle_bundle(GO_C) / graph_file_name(precision, target)
    tensors = [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]
    floats = [tensor for tensor in tensors if tensor.dtype.kind == "f" and tensor.ndim]
    dimensions = Bundle.open(oracle_bundle(GO_C)).manifest.dimensions
    expected = parameter_count(N_GENES, WIDTH, N_LAYERS, dimensions.d_ff)
    assert sum(tensor.size for tensor in floats) == expected
    # Beside the weights: nodes, names and sizes.
    itemsize = {"fp32": 4, "fp16": 2}[precision]
    assert path.stat().st_size <= expected * itemsize + 4_096 + N_LAYERS * 8_192
