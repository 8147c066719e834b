"""Merging identical tokens is exact: the merged graph gives what the plain one gives, whatever can be merged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from scgenept_export.checkpoint import load_checkpoint
from scgenept_export.model import ReferenceModel
from scgenept_export.onnx_graph import write_graph
from scgenept_export.reference_cells import example_cells
from scgenept_export.synthetic import synthetic_state_dict
from scgenept_rt.session.protocol import Feed
from scgenept_rt.session.token_merging import run_merged
from tests.export.conftest import SIZES

GO_C = "scgenept_go_c_gpt_concat"
N_GENES, N_CELLS = 300, 4
PAD = SIZES["n_tokens"] - 1
"""The row of the gene table that all genes outside the vocabulary share."""
EXACT = 1e-5
"""Merged and plain may differ by this much; outputs are of the order of 1."""

Inputs = tuple[NDArray[np.float32], NDArray[np.int64]]
Run = Callable[[Feed], NDArray[np.float32]]


def opened(path: Path) -> Run:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda feed: session.run(None, dict(feed))[0]


class Graphs:
    """Both forms of one network, and cells of which `n_shared` genes, the last ones, are outside the vocabulary."""

    def __init__(self, plain: Run, merged: Run, n_shared: int) -> None:
        self.plain, self.merged = plain, merged
        self.index = np.where(np.arange(N_GENES) >= N_GENES - n_shared, PAD, np.arange(N_GENES) % PAD)

    def compare(self, values: NDArray[np.float32], flags: NDArray[np.int64]) -> list[int]:
        """Compare both forms, cell by cell; returns how many tokens of each cell were computed."""
        computed: list[int] = []

        def count_and_run(feed: Feed) -> NDArray[np.float32]:
            computed.append(feed["values"].shape[1])
            return self.merged(feed)

        together = self.plain({"values": values, "pert_flags": flags, "gene_index": self.index})
        merged = run_merged(count_and_run, values, flags, self.index, np.arange(PAD + 1) == PAD)
        assert np.abs(together).max() > 0.1
        assert np.ptp(together) > 0.1, "a network whose outputs are all alike would hide an error"
        np.testing.assert_allclose(merged, together, rtol=0, atol=EXACT)
        return computed


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Graphs]:
    directory = tmp_path_factory.mktemp("graphs")
    torch.save(synthetic_state_dict(GO_C, **SIZES), directory / "model.pt")
    model = ReferenceModel.from_checkpoint(load_checkpoint(directory / "model.pt", GO_C))
    plain, merged = directory / "ort_fp32.onnx", directory / "merged_fp32.onnx"
    write_graph(model, torch.arange(PAD + 1), plain, "fp32", "ort")
    write_graph(model, torch.arange(PAD + 1), merged, "fp32", "merged")
    return partial(Graphs, opened(plain), opened(merged))


def cells(n_shared: int, *, shared_value: float = 0.0) -> Inputs:
    values, flags = example_cells(np.random.default_rng(3), N_CELLS, N_GENES)
    values[:, N_GENES - n_shared :] = shared_value
    flags[np.arange(N_CELLS), np.arange(N_CELLS)] = 1
    return values, flags


@pytest.mark.parametrize("n_shared", [2, 5, 150, N_GENES - 1])
@pytest.mark.parametrize("shared_value", [0.0, 1.5])
def test_few_and_many_identical_tokens(n_shared: int, shared_value: float, graphs: Callable[[int], Graphs]) -> None:
    values, flags = cells(n_shared, shared_value=shared_value)
    flags[:, N_GENES - n_shared :] = 0
    assert graphs(n_shared).compare(values, flags) == [N_GENES - n_shared + 1] * N_CELLS


def test_no_identical_tokens(graphs: Callable[[int], Graphs]) -> None:
    values, flags = cells(0)
    assert graphs(0).compare(values, flags) == [N_GENES] * N_CELLS
    # Outside the vocabulary, but of different values.
    values[:, -150:] = np.random.default_rng(4).permutation(150 * N_CELLS).reshape(N_CELLS, 150) / 100
    assert graphs(150).compare(values, flags) == [N_GENES] * N_CELLS


def test_a_shared_gene_that_is_expressed_or_perturbed_in_one_cell_stays_apart_there(
    graphs: Callable[[int], Graphs],
) -> None:
    values, flags = cells(150)
    values[1, -1] = 2.5
    flags[2, -2] = 1
    values[3, -3], flags[3, -3] = 0.7, 1
    assert graphs(150).compare(values, flags) == [151, 152, 152, 152]


def test_several_groups_of_one_cell(graphs: Callable[[int], Graphs]) -> None:
    values, flags = cells(150)
    values[:, -60:] = 1.25
    flags[:, -100:-80] = 1
    values[:, -10:], flags[:, -10:] = 0.5, 1
    assert graphs(150).compare(values, flags) == [150 + 4] * N_CELLS


def test_without_log_count_it_is_the_plain_graph(graphs: Callable[[int], Graphs]) -> None:
    values, flags = cells(150)
    both = graphs(150)
    feed = {"values": values, "pert_flags": flags, "gene_index": both.index}
    np.testing.assert_allclose(both.merged(feed), both.plain(feed), rtol=0, atol=EXACT)


def test_genes_in_another_order_and_a_subset(graphs: Callable[[int], Graphs]) -> None:
    both = graphs(150)
    both.index = np.random.default_rng(5).permutation(both.index)[:200]
    values, flags = (array[:, :200] for array in cells(0))
    values[:, both.index == PAD] = 0.0
    flags[:, both.index == PAD] = 0
    n_shared = int((both.index == PAD).sum())
    assert n_shared > 50
    assert both.compare(values, flags) == [200 - n_shared + 1] * N_CELLS
