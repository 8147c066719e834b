from __future__ import annotations

import tracemalloc
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from scgenept_rt.errors import LabelNotFoundError
from scgenept_rt.evaluation.measured import MeasuredCells, measured_label
from scgenept_rt.expression.opened_cells import open_cells
from scgenept_rt.genes import GenePanel


def panel(names) -> GenePanel:
    return GenePanel(tuple(names), (None,) * len(names), np.ones(len(names), dtype=bool))


@pytest.mark.parametrize("form", ["csc", "dense", "h5ad", "zarr"])
def test_means_and_variances_in_every_form(adata, mean_of, form, tmp_path) -> None:
    genes = list(adata.var["gene_name"])[::-1][:50]  # another order, and not all of them
    source: anndata.AnnData | Path = adata.copy()
    if form == "csc":
        source.X = csc_matrix(source.X)
    elif form == "dense":
        source.X = source.X.toarray()
    elif form == "h5ad":
        source = tmp_path / "cells.h5ad"
        adata.write_h5ad(source)
    elif form == "zarr":
        pytest.importorskip("zarr")
        source = tmp_path / "cells.zarr"
        adata.write_zarr(source)
    with open_cells(source) as cells:
        measured = MeasuredCells(cells, panel(genes))
        moments = measured.moments(["G1+ctrl", "G1+G2"])
        every = measured.moments(["G1+ctrl"], others=measured.labels.names)
        wanted = {"G1+G2": np.array([7, 3, 7]), "G1+ctrl": np.array([0]), "G3+ctrl": np.array([], dtype=np.int64)}
        expression = measured.expression(wanted)
    columns = [list(adata.var["gene_name"]).index(gene) for gene in genes]
    values, condition = adata.X.toarray().astype(float)[:, columns], adata.obs["condition"].to_numpy()
    np.testing.assert_allclose(moments.control, mean_of("ctrl")[columns], rtol=1e-9)
    np.testing.assert_allclose(moments.mean("G1+G2"), mean_of("G1+G2")[columns], rtol=1e-9)
    np.testing.assert_allclose(moments.variance("G1+ctrl"), values[condition == "G1+ctrl"].var(0, ddof=1), atol=1e-9)
    assert moments.n("ctrl") == 80
    pooled = values[np.isin(condition, ["G2+ctrl", "G3+ctrl"])].mean(0)
    np.testing.assert_allclose(every.mean("G2+ctrl", "G3+ctrl"), pooled, rtol=1e-9)
    means = np.stack([mean_of(label)[columns] for label in adata.obs["condition"].unique()])
    np.testing.assert_allclose(every.std_of_means(), means.std(axis=0), atol=1e-9)
    for label, chosen in wanted.items():
        np.testing.assert_array_equal(expression[label], values[condition == label][:, chosen].astype(np.float32))


def test_memory_does_not_hold_the_matrix(tmp_path) -> None:
    rng = np.random.default_rng(0)
    n_cells, n_genes = 20_000, 400
    matrix = csr_matrix((rng.random((n_cells, n_genes)) < 0.5).astype(np.float32) * 1.5)
    condition = np.array(["ctrl", "A+ctrl"])[np.arange(n_cells) % 2]
    source = tmp_path / "cells.h5ad"
    obs = pd.DataFrame({"condition": pd.Categorical(condition)}, index=[str(row) for row in range(n_cells)])
    genes = ["A", *(f"G{gene}" for gene in range(n_genes - 1))]
    anndata.AnnData(matrix, obs=obs, var=pd.DataFrame(index=genes)).write_h5ad(source)
    tracemalloc.start()
    with open_cells(source) as cells:
        MeasuredCells(cells, panel(genes)).moments(["A+ctrl"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One batch of a million values at a time and its temporary copies, whatever the number of cells.
    assert peak < 100e6
    assert matrix.data.nbytes + matrix.indices.nbytes > 30e6


def test_labels_are_found_by_text_and_by_genes(adata, h5ad) -> None:
    with open_cells(h5ad) as cells:
        measured = MeasuredCells(cells, panel(adata.var["gene_name"]))
    assert measured.labels.condition_names["G1+G2"] == "A549_G1+G2_1+1"
    for perturbation, label in {"ctrl+G0": "ctrl+G0", "G2+G1": "G1+G2", "G3": "G3+ctrl"}.items():
        assert measured_label(measured.labels, perturbation, "cells") == label
    with pytest.raises(LabelNotFoundError, match=r"no perturbed cell is labelled G3\+G4 .*G0\+ctrl"):
        measured_label(measured.labels, "G3+G4", "cells")
    with pytest.raises(LabelNotFoundError, match="no perturbed cell is labelled ctrl"):
        measured_label(measured.labels, "ctrl", "cells")
