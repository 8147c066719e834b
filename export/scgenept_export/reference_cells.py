"""The few cells that travel in a bundle with the eager model's outputs, so that any provider can be checked."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from scgenept_export.model import ReferenceModel
from scgenept_rt.bundle import Reference

N_CELLS = 6
MAX_GENES = 192
"""Enough genes to exercise attention, few enough that a check takes milliseconds."""

SEED = 20241023


def reference_cells(model: ReferenceModel, token_ids: torch.Tensor, in_vocab: Sequence[bool]) -> Reference:
    """Draw reference cells for a gene list and predict them with the eager model.

    The cells are drawn from a fixed seed, never taken from a user's data: log1p-like values, two thirds of them zero, a
    cell without perturbation, with one, two and three perturbed genes, and one with an out-of-vocabulary gene.
    """
    n_model_genes = len(token_ids)
    n_genes = min(n_model_genes, MAX_GENES)
    rng = np.random.default_rng(SEED)
    out_of_vocab = np.flatnonzero(~np.asarray(in_vocab))[:8]
    others = rng.permutation(np.setdiff1d(np.arange(n_model_genes), out_of_vocab))
    gene_index = np.sort(np.concatenate([out_of_vocab, others])[:n_genes]).astype(np.int64)
    values, pert_flags = example_cells(rng, N_CELLS, n_genes)
    for cell in range(1, N_CELLS):
        n_perturbed = min((1, 2, 3)[(cell - 1) % 3], n_genes)
        pert_flags[cell, rng.choice(n_genes, n_perturbed, replace=False)] = 1
    if len(out_of_vocab):
        pert_flags[-1] = np.isin(gene_index, out_of_vocab[:1])
    predicted = predict_eager(model, token_ids[torch.from_numpy(gene_index)], values, pert_flags)
    return Reference(values, pert_flags, gene_index, predicted, token_ids.numpy())


def example_cells(
    rng: np.random.Generator, n_cells: int, n_genes: int, expressed: float = 1 / 3
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw log1p-like values (a share of them non-zero) and no perturbation, each [n_cells, n_genes]."""
    drawn = rng.gamma(2.0, 0.6, (n_cells, n_genes)) * (rng.random((n_cells, n_genes)) < expressed)
    return drawn.astype(np.float32), np.zeros((n_cells, n_genes), dtype=np.int64)


def predict_eager(
    model: ReferenceModel,
    token_ids: torch.Tensor,
    values: NDArray[np.float32],
    pert_flags: NDArray[np.int64],
    *,
    autocast: torch.dtype | None = None,
) -> NDArray[np.float32]:
    """Predict with the eager model; with `autocast` in that half precision, as upstream runs it on a GPU."""
    with torch.inference_mode(), torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
        predicted = model(token_ids, torch.from_numpy(values), torch.from_numpy(pert_flags))
    return np.asarray(predicted.float().numpy())
