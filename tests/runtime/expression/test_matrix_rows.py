from __future__ import annotations

import h5py
import numpy as np
import pytest
import scipy.sparse

from scgenept_rt.errors import CellsFormatError
from scgenept_rt.expression import matrix_rows
from tests.runtime.expression.inputs import CONTROL_ROWS, ENCODINGS, as_form, assert_controls, cells, log1p_values, read


@pytest.mark.parametrize(
    ("dtype", "encoding", "form"),
    [
        ("float32", "csr", "zarr"),
        ("float64", "csc", "h5ad"),
        ("int8", "csr", "h5ad"),
        ("int32", "csc", "memory"),
        ("int64", "csc", "zarr"),
        ("uint16", "dense", "memory"),
        ("float16", "dense", "zarr"),
        (">f4", "dense", "h5ad"),
    ],
)
def test_every_real_dtype(tmp_path, dtype, encoding, form):
    x = np.minimum(log1p_values(), 2).astype(dtype)
    with as_form(cells(ENCODINGS[encoding](x)), form, tmp_path) as source:
        assert_controls(read(source), x)


def test_matrices_of_another_kind_are_refused(tmp_path):
    with pytest.raises(CellsFormatError, match="dtype bool, expected integers or floating point"):
        read(cells(np.ones((3, 8), bool), conditions=False))
    cells(log1p_values()).write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "r+") as file:
        del file["X"]
        file.create_group("X").attrs["encoding-type"] = "coo_matrix"
    with pytest.raises(CellsFormatError, match=r"of an unknown kind \(Group\), expected a CSR, CSC or dense"):
        read(tmp_path / "cells.h5ad")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_batches_of_any_size_give_the_same_values(tmp_path, monkeypatch, encoding):
    x = log1p_values()
    cells(ENCODINGS[encoding](x)).write_h5ad(tmp_path / "cells.h5ad")
    whole = read(tmp_path / "cells.h5ad")
    for name in ("_READ_VALUES", "_READ_DENSE_VALUES", "_GAP_VALUES", "_BAND_BYTES"):
        monkeypatch.setattr(matrix_rows, name, 3)
    batches = read(tmp_path / "cells.h5ad")
    assert_controls(batches, x)
    assert batches.fingerprint == whole.fingerprint


@pytest.mark.parametrize("encoding", ["csr", "csc"])
@pytest.mark.parametrize(("array", "value"), [("indices", -3), ("indices", 999), ("indptr", -1)])
def test_damaged_indices_are_refused(tmp_path, encoding, array, value):
    adata = cells(ENCODINGS[encoding](log1p_values()), conditions=False)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "r+") as file:
        file["X"][array][5] = value
    getattr(adata.X, array)[5] = value
    for source in (tmp_path / "cells.h5ad", adata):
        with pytest.raises(CellsFormatError, match=r"expression values cannot be read.*write the file again"):
            read(source)


def test_a_row_that_ends_beyond_the_next_one_is_refused(tmp_path):
    path = tmp_path / "cells.h5ad"
    cells(ENCODINGS["csr"](log1p_values())).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        file["X/indptr"][CONTROL_ROWS[1] + 1] = file["X/indptr"][-1]
    with pytest.raises(CellsFormatError, match="its indptr does not ascend from 0"):
        read(path)


class Recorder:
    """An array that notes which slices are read."""

    def __init__(self, array):
        self.array = array
        self.dtype, self.shape = array.dtype, array.shape
        self.lengths = []

    def __getitem__(self, key):
        part = self.array[key]
        self.lengths.append(len(part))
        return part


def test_rows_that_are_not_used_are_not_read(monkeypatch):
    x = scipy.sparse.csr_matrix(np.ones((1000, 20)))
    monkeypatch.setattr(matrix_rows, "_READ_VALUES", 100)
    monkeypatch.setattr(matrix_rows, "_GAP_VALUES", 40)
    arrays = {"data": Recorder(x.data), "indices": Recorder(x.indices), "indptr": x.indptr}
    rows = np.array([3, 4, 5, 500, 502, 900, 901, 902, 903, 904, 905, 906])
    matrix = matrix_rows.CompressedRows(arrays, x.shape, "test")
    batches = list(matrix.batches(rows, np.arange(20)))
    assert sum(batch.shape[0] for batch in batches) == len(rows)
    assert arrays["data"].lengths == [60, 60, 100, 40]  # 500 to 502 reads one row along
    assert max(arrays["indices"].lengths) <= 100


def test_stored_entries_in_any_order_and_in_parts_are_as_scipy_reads_them():
    x = scipy.sparse.csr_matrix(
        (np.array([0.5, 1.5, 0.25, 0.25, 0.0, 2.5]), np.array([7, 0, 3, 3, 1, 2]), np.array([0, 2, 5, 6])), (3, 8)
    )
    control = read(cells(x, conditions=False))
    expected = np.zeros((3, 8), np.float32)
    expected[0, [0, 7]], expected[1, 3], expected[2, 2] = [1.5, 0.5], 0.5, 2.5
    assert_controls(control, expected, [0, 1, 2])
    assert control.fingerprint == read(cells(expected, conditions=False)).fingerprint
