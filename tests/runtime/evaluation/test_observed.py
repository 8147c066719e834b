from __future__ import annotations

import tracemalloc
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_matrix, csr_matrix

from scgenept_rt.errors import ControlCellsError, ExpressionValueError
from scgenept_rt.evaluation.errors import PerturbationNotObservedError
from scgenept_rt.evaluation.observed import OpenData, open_data
from scgenept_rt.genes import GenePanel


def panel(names) -> GenePanel:
    return GenePanel(tuple(names), (None,) * len(names), np.ones(len(names), dtype=bool))


@pytest.mark.parametrize("form", ["csr", "csc", "dense", "h5ad", "zarr"])
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
    pooled = {"train": ["G1+ctrl", "G2+ctrl", "G4+ctrl"], "two": ["G2+ctrl", "G3+ctrl"]}
    with open_data(source) as cells:
        observed = OpenData.of(cells, panel(genes)).observe(["G1+ctrl", "G1+G2"], pooled)
    columns = [list(adata.var["gene_name"]).index(gene) for gene in genes]
    np.testing.assert_allclose(observed.control, mean_of("ctrl")[columns], rtol=1e-9)
    np.testing.assert_allclose(observed.moments.mean("G1+G2"), mean_of("G1+G2")[columns], rtol=1e-9)
    values, condition = adata.X.toarray().astype(float)[:, columns], adata.obs["condition"].to_numpy()
    np.testing.assert_allclose(
        observed.moments.variance("G1+ctrl"), values[condition == "G1+ctrl"].var(0, ddof=1), atol=1e-9
    )
    for pool, labels in pooled.items():
        np.testing.assert_allclose(observed.pooled[pool], values[np.isin(condition, labels)].mean(0), rtol=1e-9)
    assert observed.moments.n("ctrl") == 80
    assert "G3+ctrl" not in observed.moments
    assert observed.condition_std is None
    wanted = {"G1+G2": np.array([7, 3, 7]), "G1+ctrl": np.array([0]), "G3+ctrl": np.array([], dtype=np.int64)}
    with open_data(source) as cells:
        opened = OpenData.of(cells, panel(genes))
        every = opened.observe(["G1+ctrl"], pooled, every_condition=True)
        dense = opened.dense_of(wanted)
    means = np.stack([mean_of(label)[columns] for label in adata.obs["condition"].unique()])
    np.testing.assert_allclose(every.condition_std, means.std(axis=0), atol=1e-9)
    np.testing.assert_allclose(every.pooled["two"], observed.pooled["two"], rtol=1e-12)
    for label, chosen in wanted.items():
        np.testing.assert_array_equal(dense[label], values[condition == label][:, chosen].astype(np.float32))


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
    with open_data(source) as cells:
        OpenData.of(cells, panel(genes)).observe(["A+ctrl"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One piece of a million values at a time, with what is made of it; the number of cells plays no part.
    assert peak < 100e6
    assert matrix.data.nbytes + matrix.indices.nbytes > 30e6


def test_labels_are_found_by_text_and_by_genes(adata, h5ad) -> None:
    with open_data(h5ad) as cells:
        opened = OpenData.of(cells, panel(adata.var["gene_name"]))
    assert opened.labels.condition_names["G1+G2"] == "A549_G1+G2_1+1"
    assert opened.label("ctrl+G0") == "ctrl+G0"
    assert opened.label("G2+G1") == "G1+G2"
    assert opened.label("G3") == "G3+ctrl"
    with pytest.raises(PerturbationNotObservedError, match=r"no cell of it is labelled G3\+G4 .*G0\+ctrl"):
        opened.label("G3+G4")


def test_other_names_for_controls_and_columns(adata) -> None:
    changed = adata.copy()
    changed.obs = pd.DataFrame(
        {"gene": adata.obs["condition"].astype(str).replace({"ctrl": "non-targeting"})}, index=adata.obs_names
    )
    with open_data(changed) as cells:
        observed = OpenData.of(cells, panel(adata.var["gene_name"])).observe([])
    assert observed.labels.control_label == "non-targeting"
    assert observed.moments.n("ctrl") == 80
    changed.obs = changed.obs.drop(columns="gene")
    with open_data(changed) as cells, pytest.raises(ControlCellsError):
        OpenData.of(cells, panel(adata.var["gene_name"]))


def test_a_value_that_is_not_finite_is_an_error(adata) -> None:
    changed = adata.copy()
    row = int(np.flatnonzero(changed.obs["condition"] == "G1+ctrl")[0])
    changed.X[row, 3] = np.nan
    with open_data(changed) as cells, pytest.raises(ExpressionValueError, match=str(changed.obs_names[row])):
        OpenData.of(cells, panel(adata.var["gene_name"])).observe(["G1+ctrl"])
