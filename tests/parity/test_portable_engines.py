"""The portable graphs in engines that know nothing of ONNX Runtime: "portable" is a fact, not a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import openvino
import pytest
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from scgenept_rt.bundle import Bundle, Precision

if TYPE_CHECKING:
    from tests.conftest import Oracle

VARIANT = "scgenept_go_c_gpt_concat"
Inputs = Mapping[str, NDArray[Any]]
Engine = Callable[[Path, Inputs], NDArray[np.float32]]


def onnx_reference(path: Path, inputs: Inputs) -> NDArray[np.float32]:
    return np.asarray(ReferenceEvaluator(str(path)).run(None, dict(inputs))[0])


def openvino_cpu(path: Path, inputs: Inputs) -> NDArray[np.float32]:
    # Without the hint it computes in bfloat16 where the processor can, whatever the graph says.
    model = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.asarray(model(dict(inputs))["predicted"])


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("engine", [onnx_reference, openvino_cpu])
def test_an_engine_agrees_with_upstream(
    engine: Engine, precision: Precision, oracle: Oracle, oracle_bundle: Callable[[str], Path]
) -> None:
    bundle, golden = Bundle.open(oracle_bundle(VARIANT)), oracle.golden(VARIANT)
    path = bundle.path(bundle.graph(precision, "portable"))
    inputs = {"values": golden["X"], "pert_flags": golden["pp_flags"].astype(np.int64), "gene_index": np.arange(24)}
    predicted = engine(path, inputs)
    assert (predicted.dtype, predicted.shape) == (np.float32, golden["X"].shape)
    comparison = bundle.manifest.tolerances[precision].compare(predicted, golden["pp_all"])
    assert comparison.passed, comparison


@pytest.mark.parametrize("engine", [onnx_reference, openvino_cpu])
def test_batch_and_genes_are_dynamic_in_other_engines_too(
    engine: Engine, oracle: Oracle, oracle_bundle: Callable[[str], Path]
) -> None:
    bundle, golden = Bundle.open(oracle_bundle(VARIANT)), oracle.golden(VARIANT)
    path = bundle.path(bundle.graph("fp32", "portable"))
    genes = np.array([20, 3, 11, 0, 7])
    values, flags = golden["X"][:1, genes], golden["pp_flags"][:1, genes].astype(np.int64)
    predicted = engine(path, {"values": values, "pert_flags": flags, "gene_index": genes})
    expected = onnx_reference(path, {"values": values, "pert_flags": flags, "gene_index": genes})
    assert predicted.shape == (1, 5)
    assert bundle.manifest.tolerances["fp32"].compare(predicted, expected).passed


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_portable_graphs_use_standard_operators_alone(
    precision: Precision, oracle_bundle: Callable[[str], Path]
) -> None:
    bundle = Bundle.open(oracle_bundle(VARIANT))
    model = onnx.load(bundle.path(bundle.graph(precision, "portable")))
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 23)]
    assert {node.domain for node in model.graph.node} == {""}
    onnx.checker.check_model(model, full_check=True)
