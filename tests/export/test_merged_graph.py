"""Merging identical tokens is exact: the merged graph gives what the plain one gives, whatever can be merged."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from scgenept_export.checkpoint import load_checkpoint
from scgenept_export.graph_check import example_cells, open_on_cpu
from scgenept_export.model import ReferenceModel
from scgenept_export.onnx_graph import write_graph
from scgenept_export.synthetic import synthetic_state_dict
from scgenept_rt.session.protocol import Feed
from scgenept_rt.session.token_merging import run_merged
from tests.export.conftest import SIZES, share_of_weights

GO_C = "scgenept_go_c_gpt_concat"
TOKENS = torch.arange(SIZES["n_tokens"])
"""Rows of the gene table: the last is that of all genes outside the vocabulary."""
N_GENES, N_CELLS = 300, 4
EXACT = 1e-5
"""Merged and plain may differ by this much; outputs are of the order of 1."""

Inputs = tuple[NDArray[np.float32], NDArray[np.int64]]


class Graphs:
    """Both forms of one network, and cells of which the last genes are outside the vocabulary."""

    def __init__(self, directory: Path) -> None:
        self.plain, self.merged = (open_on_cpu(directory / f"{target}_fp32.onnx") for target in ("ort", "merged"))
        self.shared_rows = np.arange(len(TOKENS)) == len(TOKENS) - 1

    def index(self, n_shared: int) -> NDArray[np.int64]:
        known, shared = np.flatnonzero(~self.shared_rows), np.flatnonzero(self.shared_rows)
        return np.concatenate([np.resize(known, N_GENES - n_shared), np.resize(shared, n_shared)])

    def compare(self, index: NDArray[np.int64], values: NDArray[np.float32], flags: NDArray[np.int64]) -> list[int]:
        """Compare both forms, cell by cell; returns how many tokens of each cell were computed."""
        computed: list[int] = []

        def count_and_run(feed: Feed) -> NDArray[np.float32]:
            computed.append(feed["values"].shape[1])
            return self.merged(feed)

        together = self.plain({"values": values, "pert_flags": flags, "gene_index": index})
        merged = run_merged(count_and_run, values, flags, index, self.shared_rows)
        assert np.ptp(together) > 0.1, "a network whose outputs are all alike would hide an error"
        np.testing.assert_allclose(merged, together, rtol=0, atol=EXACT)
        return computed


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("graphs")
    torch.save(synthetic_state_dict(GO_C, **SIZES), directory / "model.pt")
    model = ReferenceModel.from_checkpoint(load_checkpoint(directory / "model.pt", GO_C))
    for target in ("ort", "merged"):
        write_graph(model, TOKENS, directory / f"{target}_fp32.onnx", "fp32", target)
    return directory


@pytest.fixture(scope="module")
def graphs(directory: Path) -> Graphs:
    return Graphs(directory)


def cells(n_shared: int, *, shared_value: float = 0.0) -> Inputs:
    values, flags = example_cells(np.random.default_rng(3), N_CELLS, N_GENES)
    values[:, N_GENES - n_shared :] = shared_value
    flags[np.arange(N_CELLS), np.arange(N_CELLS)] = 1
    return values, flags


@pytest.mark.parametrize(("n_shared", "shared_value"), [(2, 0.0), (150, 1.5), (N_GENES - 1, 0.0)])
def test_few_and_many_identical_tokens(n_shared: int, shared_value: float, graphs: Graphs) -> None:
    values, flags = cells(n_shared, shared_value=shared_value)
    flags[:, N_GENES - n_shared :] = 0
    assert graphs.compare(graphs.index(n_shared), values, flags) == [N_GENES - n_shared + 1] * N_CELLS


def test_no_identical_tokens(graphs: Graphs) -> None:
    values, flags = cells(0)
    assert graphs.compare(graphs.index(0), values, flags) == [N_GENES] * N_CELLS
    # Outside the vocabulary, but of different values.
    values[:, -150:] = np.random.default_rng(4).permutation(150 * N_CELLS).reshape(N_CELLS, 150) / 100
    assert graphs.compare(graphs.index(150), values, flags) == [N_GENES] * N_CELLS


def test_shared_genes_of_other_values_or_flags_stay_apart(graphs: Graphs) -> None:
    values, flags = cells(150)
    values[1, -1] = 2.5
    flags[2, -2] = 1
    values[3, -60:] = 1.25
    flags[3, -100:-80] = 1
    values[3, -10:], flags[3, -10:] = 0.5, 1
    assert graphs.compare(graphs.index(150), values, flags) == [151, 152, 152, 154]


def test_without_log_count_it_is_the_plain_graph(graphs: Graphs) -> None:
    values, flags = cells(150)
    feed = {"values": values, "pert_flags": flags, "gene_index": graphs.index(150)}
    np.testing.assert_allclose(graphs.merged(feed), graphs.plain(feed), rtol=0, atol=EXACT)


def test_genes_in_another_order_and_a_subset(graphs: Graphs) -> None:
    index = np.random.default_rng(5).permutation(graphs.index(150))[:200]
    shared = graphs.shared_rows[index]
    values, flags = (array[:, :200] for array in cells(0))
    values[:, shared] = 0.0
    flags[:, shared] = 0
    assert graphs.compare(index, values, flags) == [(~shared).sum() + 1] * N_CELLS


def test_the_weights_are_those_of_the_other_graph(directory: Path) -> None:
    # The exporter widens small weights itself, which are then the merged graph's own; test_full_size.py has large ones.
    assert share_of_weights(directory / "ort_fp32.onnx", directory / "merged_fp32.onnx") > 0.5
