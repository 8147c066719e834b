from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from scgenept_export.graph_check import FP32
from scgenept_rt.bundle import Bundle, BundleFile

if TYPE_CHECKING:
    from tests.conftest import Oracle

Sessions = Callable[[str, BundleFile], onnxruntime.InferenceSession]


@pytest.fixture(scope="module")
def session(oracle_bundle: Callable[[str], Path]) -> Sessions:
    opened: dict[Path, onnxruntime.InferenceSession] = {}

    def of_graph(variant: str, graph: BundleFile) -> onnxruntime.InferenceSession:
        path = oracle_bundle(variant) / graph.path
        if path not in opened:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            opened[path] = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return opened[path]

    return of_graph


def predict(
    session: onnxruntime.InferenceSession, values: NDArray[np.float32], flags: NDArray[np.int64]
) -> NDArray[np.float32]:
    inputs = {"values": values, "pert_flags": flags, "gene_index": np.arange(values.shape[1])}
    return np.asarray(session.run(None, inputs)[0])


def test_every_graph_predicts_every_cell_as_upstream(
    oracle: Oracle,
    oracle_variant: str,
    oracle_perturbation: str,
    oracle_bundle: Callable[[str], Path],
    session: Sessions,
) -> None:
    golden = oracle.golden(oracle_variant)
    expected = golden["fwd"][golden["perts"].tolist().index(oracle_perturbation)]
    flags = np.broadcast_to(oracle.pert_flags(oracle_perturbation), expected.shape).copy()
    bundle = Bundle.open(oracle_bundle(oracle_variant))
    assert bundle.manifest.tolerances["fp32"] == FP32
    for graph in bundle.graphs():
        tolerance = bundle.manifest.tolerances[str(graph.precision)]
        comparison = tolerance.compare(predict(session(oracle_variant, graph), golden["X"], flags), expected)
        assert comparison.passed, (graph.path, comparison)


def test_every_graph_mirrors_pred_perturb_with_a_perturbation_of_its_own_a_cell(
    oracle: Oracle, oracle_variant: str, oracle_bundle: Callable[[str], Path], session: Sessions
) -> None:
    golden = oracle.golden(oracle_variant)
    bundle = Bundle.open(oracle_bundle(oracle_variant))
    for graph in bundle.graphs():
        predicted = predict(session(oracle_variant, graph), golden["X"], golden["pp_flags"].astype(np.int64))
        comparison = bundle.manifest.tolerances[str(graph.precision)].compare(predicted, golden["pp_all"])
        assert comparison.passed, (graph.path, comparison)
