"""Files that cannot be used, and options that name what is not there."""

from __future__ import annotations

import sys
import warnings

import h5py
import numpy as np
import pytest
import scipy.sparse

from scgenept_rt.errors import (
    ArgumentError,
    CellsFormatError,
    CellsNotFoundError,
    FieldNotFoundError,
    MissingPackageError,
)
from tests.runtime.expression.inputs import GENES, cells, log1p_values, read


@pytest.fixture
def h5ad(tmp_path):
    path = tmp_path / "cells.h5ad"
    cells(log1p_values()).write_h5ad(path)
    return path


def test_missing_input(tmp_path):
    for name in ("none.h5ad", "none.zarr"):
        with pytest.raises(CellsNotFoundError, match=rf"{name}: there is no such file") as caught:
            read(tmp_path / name)
        assert isinstance(caught.value, ValueError)
        assert caught.value.where == str(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("cells.h5ad", b"gene,cell\n1,2\n", r"not an HDF5 file \(it begins with b'gene,cel'\)"),
        ("cells.h5ad", b"", "not an HDF5 file"),
        ("cells.h5ad", b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "it cannot be read"),
        ("cells.csv", b"a,b\n", r"unknown file ending '\.csv', expected \.h5ad or \.zarr"),
        ("cells.zarr", b"x", "it is a file, expected a .zarr directory"),
    ],
)
def test_files_of_another_kind(tmp_path, name, content, fact):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CellsFormatError, match=fact) as caught:
        read(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_directories_that_are_not_inputs(tmp_path):
    (tmp_path / "cells.h5ad").mkdir()
    with pytest.raises(CellsFormatError, match=r"it is a directory.*\.zarr"):
        read(tmp_path / "cells.h5ad")
    (tmp_path / "cells.zarr").mkdir()
    with pytest.raises(CellsFormatError, match="zarr group is missing"):
        read(tmp_path / "cells.zarr")


@pytest.mark.parametrize("fraction", [0.3, 0.95])
def test_truncated_file(tmp_path, fraction):
    path = tmp_path / "cells.h5ad"
    cells(scipy.sparse.csr_matrix(log1p_values(n_obs=3000))).write_h5ad(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    with pytest.raises(CellsFormatError, match=r"cannot be read .*truncated"):
        read(path)


def test_values_that_cannot_be_read(tmp_path):
    path = tmp_path / "cells.zarr"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cells(scipy.sparse.csr_matrix(log1p_values())).write_zarr(path)
    chunk = next(file for file in (path / "X" / "data").rglob("*") if file.is_file() and file.name in ("0", "c0"))
    chunk.write_bytes(b"\1\2\3")
    with pytest.raises(CellsFormatError, match=r"cells\.zarr: its expression values cannot be read"):
        read(path)


def test_annotations_as_compound_datasets(tmp_path):
    path = tmp_path / "cells.h5ad"
    with h5py.File(path, "w") as file:
        for name in ("obs", "var"):
            file[name] = np.array([(b"a",)], dtype=[("index", "S1")])
        file["X"] = np.zeros((1, 1))
    with pytest.raises(CellsFormatError, match=r"obs is stored in the format of anndata before 0\.7.*write_h5ad"):
        read(path)


def test_a_matrix_that_does_not_fit_its_annotations(h5ad):
    for shape, step in (((5, 8), "recent anndata"), ((8, 30), "cells as rows")):
        with h5py.File(h5ad, "r+") as file:
            del file["X"]
            file["X"] = np.zeros(shape)
        with pytest.raises(CellsFormatError, match=rf"matrix is {shape[0]} x {shape[1]}, but obs has 30 rows.*{step}"):
            read(h5ad)


def test_a_column_that_is_listed_but_not_there(h5ad):
    with h5py.File(h5ad, "r+") as file:
        del file["obs/condition"]
    with pytest.raises(CellsFormatError, match=r"obs column 'condition' cannot be read .*doesn't exist"):
        read(h5ad)


def test_raw_without_names_of_genes(tmp_path):
    path = tmp_path / "cells.h5ad"
    adata = cells(log1p_values())
    adata.raw = adata
    adata.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["raw/var"]
    with pytest.raises(FieldNotFoundError, match="it has no raw"):
        read(path, use_raw=True)


def test_zarr_that_is_not_installed(tmp_path, monkeypatch):
    (tmp_path / "cells.zarr").mkdir()
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingPackageError, match=r"pip install .*\[zarr\]"):
        read(tmp_path / "cells.zarr")


def test_options_that_name_what_is_not_there(tmp_path):
    adata = cells(log1p_values())
    adata.layers["lognorm"] = adata.X
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for source in (adata, tmp_path / "cells.h5ad"):
        with pytest.raises(FieldNotFoundError, match="no layer 'counts'"):
            read(source, layer="counts")
        with pytest.raises(FieldNotFoundError, match="no raw"):
            read(source, use_raw=True)
        with pytest.raises(FieldNotFoundError, match=r"no column 'arm' \(it has: condition\)"):
            read(source, condition_key="arm")
        with pytest.raises(FieldNotFoundError, match="no column 'symbol'"):
            read(source, gene_key="symbol")
        with pytest.raises(ArgumentError, match="both raw and the layer 'lognorm'"):
            read(source, layer="lognorm", use_raw=True)
    with pytest.raises(ArgumentError, match="there is no option 'missing'"):
        read(cells(log1p_values()), missing="zero")


@pytest.mark.parametrize("shape", [(0, 8), (3, 0), (0, 1)])
def test_no_cells_or_no_genes(tmp_path, shape):
    adata = cells(np.zeros(shape, np.float32), GENES[: shape[1]], conditions=False)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for source in (adata, tmp_path / "cells.h5ad"):
        with pytest.raises(CellsFormatError, match=rf"{shape[0]} cells x {shape[1]} gene{'s'[: shape[1] != 1]},"):
            read(source)
