from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from scgenept_export.checkpoint import Checkpoint
from scgenept_export.model import ReferenceModel
from scgenept_export.reference_cells import MAX_GENES, N_CELLS, predict_eager, reference_cells
from scgenept_rt.bundle import Reference


@pytest.fixture
def model(small_checkpoint: Callable[..., Checkpoint]) -> ReferenceModel:
    return ReferenceModel.from_checkpoint(small_checkpoint("scgenept_go_c_gpt_concat"))


def tokens_of(n_genes: int) -> torch.Tensor:
    return torch.arange(n_genes) % 12


def test_cells_cover_each_kind_of_perturbation(model: ReferenceModel) -> None:
    in_vocab = np.arange(300) % 50 != 7
    cells = reference_cells(model, tokens_of(300), in_vocab.tolist())
    assert cells.values.shape == cells.pert_flags.shape == cells.predicted.shape == (N_CELLS, MAX_GENES)
    assert cells.pert_flags.sum(axis=1)[:4].tolist() == [0, 1, 2, 3]
    last = cells.gene_index[cells.pert_flags[-1] == 1]
    assert len(last) == 1
    assert not in_vocab[last[0]]
    assert set(np.unique(cells.pert_flags)) == {0, 1}


@pytest.mark.parametrize("n_genes", [1, 2, 3, 24])
def test_small_gene_lists_have_reference_cells_too(n_genes: int, model: ReferenceModel) -> None:
    cells = reference_cells(model, tokens_of(n_genes), [True] * n_genes)
    assert cells.gene_index.tolist() == list(range(n_genes))
    assert np.isfinite(cells.predicted).all()


def test_cells_are_the_same_each_time_and_predicted_by_the_eager_model(model: ReferenceModel, tmp_path: Path) -> None:
    tokens, in_vocab = tokens_of(40), [True] * 39 + [False]
    first, second = (reference_cells(model, tokens, in_vocab) for _ in range(2))
    for name in ("values", "pert_flags", "gene_index", "predicted", "token_ids"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    first.write(tmp_path)
    read = Reference.read(tmp_path)
    assert [array.dtype for array in (read.values, read.pert_flags, read.gene_index, read.predicted)] == [
        np.float32,
        np.int64,
        np.int64,
        np.float32,
    ]
    np.testing.assert_array_equal(read.token_ids, tokens)
    expected = predict_eager(model, tokens[torch.from_numpy(read.gene_index)], read.values, read.pert_flags)
    np.testing.assert_allclose(read.predicted, expected, rtol=1e-5, atol=1e-6)
