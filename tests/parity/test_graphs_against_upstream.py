from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scgenept_export.graph_check import FP32, open_on_cpu
from scgenept_rt.bundle import Bundle

if TYPE_CHECKING:
    from tests.conftest import Oracle

opened = cache(open_on_cpu)


def assert_every_graph_predicts(
    directory: Path, values: NDArray[np.float32], flags: NDArray[np.int64], expected: NDArray[np.float32]
) -> None:
    bundle = Bundle.open(directory)
    assert bundle.manifest.tolerances["fp32"] == FP32
    feed = {"values": values, "pert_flags": flags, "gene_index": np.arange(values.shape[1])}
    for graph in bundle.graphs():
        comparison = bundle.manifest.tolerances[str(graph.precision)].compare(
            opened(bundle.path(graph))(feed), expected
        )
        assert comparison.passed, (graph.path, comparison)


def test_every_graph_predicts_every_cell_as_upstream(
    oracle: Oracle, oracle_variant: str, oracle_perturbation: str, oracle_bundle: Callable[[str], Path]
) -> None:
    golden = oracle.golden(oracle_variant)
    expected = golden["fwd"][golden["perts"].tolist().index(oracle_perturbation)]
    flags = np.broadcast_to(oracle.pert_flags(oracle_perturbation), expected.shape).copy()
    assert_every_graph_predicts(oracle_bundle(oracle_variant), golden["X"], flags, expected)


def test_every_graph_mirrors_pred_perturb_with_a_perturbation_of_its_own_a_cell(
    oracle: Oracle, oracle_variant: str, oracle_bundle: Callable[[str], Path]
) -> None:
    golden = oracle.golden(oracle_variant)
    flags = golden["pp_flags"].astype(np.int64)
    assert_every_graph_predicts(oracle_bundle(oracle_variant), golden["X"], flags, golden["pp_all"])
