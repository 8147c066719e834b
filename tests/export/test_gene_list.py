from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scgenept_export.errors import GeneListError
from scgenept_export.gene_list import GeneList, normalised_total, read_gene_list

NAMES = ("FOSB", "HLA-A", "RP11-34P13.8")
IDS = ("ENSG00000125740", "ENSG00000206503.13", "ENSG00000239945")
Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(name: str, contents: str) -> Path:
        path = tmp_path / name
        path.write_bytes(contents.encode())
        return path

    return write_file


def write_h5ad(path: Path, var: pd.DataFrame) -> Path:
    anndata.AnnData(X=sparse.csr_matrix((2, len(var)), dtype=np.float32), var=var).write_h5ad(path)
    return path


def test_h5ad_with_gene_names_and_ensembl_ids(tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "cells.h5ad", pd.DataFrame({"gene_name": NAMES}, index=list(IDS)))
    assert read_gene_list(path) == GeneList(NAMES, IDS)


def test_the_total_of_the_training_data_is_that_of_cells_with_all_genes(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).poisson(np.random.default_rng(1).lognormal(0, 1.5, 300), (20, 300))
    values = np.log1p(counts / counts.sum(axis=1, keepdims=True) * 5e4).astype(np.float32)
    for name, kept, total in (("all", slice(None), pytest.approx(5e4)), ("dropped", slice(0, 100), None)):
        anndata.AnnData(values[:, kept]).write_h5ad(tmp_path / f"{name}.h5ad")
        assert normalised_total(tmp_path / f"{name}.h5ad") == total
    path = tmp_path / "all.h5ad"
    with h5py.File(path, "a") as file:
        del file["X"]
    assert normalised_total(path) is None
    assert normalised_total("norman") is None


def test_h5ad_without_gene_names_has_them_as_var_names(tmp_path: Path) -> None:
    path = write_h5ad(tmp_path / "cells.h5ad", pd.DataFrame(index=list(NAMES)))
    assert read_gene_list(path) == GeneList(NAMES, (None, None, None))


def test_an_h5ad_gene_without_a_name_is_refused(tmp_path: Path) -> None:
    var = pd.DataFrame({"gene_name": ["FOSB", None, "SAMD1"]}, index=list(IDS))
    with pytest.raises(GeneListError, match="no name for gene number 2"):
        read_gene_list(write_h5ad(tmp_path / "cells.h5ad", var))


def test_an_h5ad_that_is_none_is_refused(tmp_path: Path, write: Write) -> None:
    with pytest.raises(GeneListError, match="not an HDF5 file"):
        read_gene_list(write("cells.h5ad", "FOSB\n"))
    with h5py.File(tmp_path / "other.h5ad", "w") as file:
        file["weights"] = np.zeros(3)
    with pytest.raises(GeneListError, match="no obs and var"):
        read_gene_list(tmp_path / "other.h5ad")


def test_csv_with_ids(write: Write) -> None:
    path = write("genes.csv", "gene_id,gene_name\nENSG00000125740,FOSB\n,HLA-A\n")
    assert read_gene_list(path) == GeneList(("FOSB", "HLA-A"), ("ENSG00000125740", None))


@pytest.mark.parametrize(
    ("name", "contents", "problem"),
    [
        ("genes.txt", "FOSB\nA\nFOSB\nB\nA\nA\n", "2 names more than once: FOSB, A"),
        ("genes.csv", "gene_name\nFOSB\nFOSB\n", "1 name more than once: FOSB"),
        ("genes.txt", "", "holds no genes"),
        ("genes.csv", "symbol,id\nFOSB,1\n", r"no column gene_name \(it has: symbol, id\)"),
        ("genes.csv", "gene_name,id\nFOSB,1\n,2\n", "line 3.*empty"),
        ("genes.csv", "gene_name\nFOSB\nHLA-A,KLF1\n", r"line 3.*2 cells.*Name every column\."),
        ("genes.txt", "\ngene_name\nFOSB\n", "'gene_name' is the header of a table"),
    ],
)
def test_unusable_lists_are_refused(name: str, contents: str, problem: str, write: Write) -> None:
    path = write(name, contents)
    with pytest.raises(GeneListError, match=problem) as caught:
        read_gene_list(path)
    assert str(path) in str(caught.value)


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(GeneListError, match=r"nowhere\.csv: there is no such file"):
        read_gene_list(tmp_path / "nowhere.csv")
    with pytest.raises(GeneListError, match=r"cannot be read .*[Dd]irectory"):
        read_gene_list(tmp_path)
    binary = tmp_path / "genes.txt"
    binary.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xfe\x00")
    with pytest.raises(GeneListError, match="not UTF-8 text"):
        read_gene_list(binary)


@pytest.mark.parametrize("column", ["gene_ids", "gene_id", "ensembl_id"])
def test_an_h5ad_with_symbols_as_var_names_has_its_ids_in_a_column(column: str, tmp_path: Path) -> None:
    var = pd.DataFrame({column: IDS, "feature_types": "Gene Expression"}, index=list(NAMES))
    assert read_gene_list(write_h5ad(tmp_path / "genes.h5ad", var)) == GeneList(NAMES, IDS)
