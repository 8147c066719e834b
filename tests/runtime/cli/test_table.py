"""The command `table`: predictions as a long table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pandas as pd
import pytest

import scgenept_rt as sgr
from scgenept_rt.errors import PredictionFileError
from scgenept_rt.evaluation import change_tables

if TYPE_CHECKING:
    from tests.commands import CommandLine

LABELS = ["YFU19", "EKKN10+YFU19"]


@pytest.fixture
def means(model: sgr.Predictor, make_cells: Callable[..., anndata.AnnData]) -> anndata.AnnData:
    """Predicted means with effects, whose genes have the names of the input."""
    cells = make_cells(20)
    cells.var_names = [gene_id or name for gene_id, name in zip(model.panel.ids, model.gene_names, strict=True)]
    return model.predict(cells, LABELS, n_controls_per_perturbation=8)


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
def test_a_table_has_every_value_under_the_symbol_of_its_gene(
    command_line: CommandLine, model: sgr.Predictor, means: anndata.AnnData, tmp_path: Path, ending: str
) -> None:
    if ending == "parquet":
        pytest.importorskip("pyarrow", reason="the extra parquet is not installed")
    means.write_h5ad(tmp_path / "means.h5ad")
    out = tmp_path / f"table.{ending}"
    result = command_line("table", tmp_path / "means.h5ad", "--out", out)
    assert result.returncode == 0, result.stderr
    read = {"csv": pd.read_csv, "tsv": pd.read_table, "parquet": pd.read_parquet}[ending]
    table = read(out)
    columns = ["perturbation", "gene", "control", "predicted", "delta", "delta_sem", "effect", "synthetic"]
    assert list(table) == columns
    assert table["synthetic"].all()
    assert table["perturbation"].tolist() == np.repeat(LABELS, len(model.gene_names)).tolist()
    assert table["gene"].tolist() == model.gene_names * 2
    for column in ("delta", "delta_sem", "effect"):
        np.testing.assert_allclose(table[column], means.layers[column].ravel(), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(table["predicted"] - table["delta"], table["control"], atol=1e-4)


def test_top_genes_of_one_perturbation_from_a_list(
    command_line: CommandLine, model: sgr.Predictor, means: anndata.AnnData, tmp_path: Path
) -> None:
    means.write_h5ad(tmp_path / "means.h5ad")
    chosen = model.gene_names[3:12]
    (tmp_path / "genes.txt").write_text("\n".join(chosen))
    out = tmp_path / "top.csv"
    options = ["-p", "YFU19+EKKN10", "--top", "4", "--genes", tmp_path / "genes.txt"]
    assert command_line("table", tmp_path / "means.h5ad", "--out", out, *options).returncode == 0
    table = pd.read_csv(out)
    expected = pd.Series(means.layers["delta"][1, 3:12], index=chosen)
    assert table["gene"].tolist() == expected.abs().nlargest(4).index.tolist()
    assert set(table["perturbation"]) == {"EKKN10+YFU19"}


def test_cells_are_averaged(
    command_line: CommandLine, model: sgr.Predictor, make_cells: Callable[..., anndata.AnnData], tmp_path: Path
) -> None:
    cells = model.predict(make_cells(5), LABELS, aggregate="cells")
    cells.write_h5ad(tmp_path / "cells.h5ad")
    out = tmp_path / "table.csv"
    assert command_line("table", tmp_path / "cells.h5ad", "--out", out, "-p", "YFU19").returncode == 0
    np.testing.assert_allclose(pd.read_csv(out)["predicted"], cells.X[:5].mean(axis=0), rtol=1e-4, atol=1e-5)
    with pytest.raises(PredictionFileError, match="no layer delta"):  # the largest values are not the largest changes
        next(change_tables(cells, top=3))


def test_faults_are_found_before_a_file_is_replaced(
    command_line: CommandLine, means: anndata.AnnData, bundle: Path, tmp_path: Path
) -> None:
    means.write_h5ad(tmp_path / "means.h5ad")
    out = tmp_path / "old.csv"
    out.write_text("old")
    for options, fact in ((["-p", "YFU20"], "YFU19"), (["--out", tmp_path / "x.xlsx"], ".parquet")):
        result = command_line("table", tmp_path / "means.h5ad", "--out", out, *options)
        assert result.returncode == 1
        assert fact in result.stderr
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["means.h5ad", "old.csv"]
    result = command_line("predict", bundle, tmp_path / "means.h5ad", "--out", tmp_path / "t.csv", "-p", "YFU19")
    assert f"scgenept-rt table {tmp_path / 't.h5ad'} --out {tmp_path / 't.csv'}" in result.stderr
