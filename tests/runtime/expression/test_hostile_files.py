"""Files that are damaged, incomplete, or made to harm."""

from __future__ import annotations

import json
import os
import resource
import struct
import warnings
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from anndata.io import write_elem

from scgenept_rt.errors import CellsFormatError
from tests.runtime.expression.inputs import as_form, cells, log1p_values, read


def heaps(path: Path) -> list[int]:
    data = path.read_bytes()
    return [at for at in range(0, len(data), 8) if data[at : at + 8] == b"GCOL\x01\0\0\0"]


def test_zeroed_heaps_of_texts_are_refused_where_hdf5_would_loop_for_ever(tmp_path):
    path = tmp_path / "cells.h5ad"
    cells(scipy.sparse.csr_matrix(log1p_values())).write_h5ad(path)
    sound = path.read_bytes()
    for at in heaps(path):
        path.write_bytes(sound[: at + 64] + bytes(512) + sound[at + 576 :])
        with pytest.raises(CellsFormatError, match="damaged"):
            read(path)


@pytest.mark.parametrize(("chunks", "length"), [(None, 2**31), ((2,), 2**32 - 1)])
def test_a_damaged_length_of_a_text_takes_no_memory(tmp_path, chunks, length):
    path = tmp_path / "cells.h5ad"
    adata = cells(scipy.sparse.csr_matrix(log1p_values()))
    adata.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        names = np.array(adata.obs_names, dtype=object)
        write_elem(file["obs"], "_index", names, dataset_kwargs={"chunks": chunks})
        array = file["obs/_index"]
        at = array.id.get_chunk_info(0).byte_offset if chunks else array.id.get_offset()
    read(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(struct.pack("<I", length))
    with pytest.raises(CellsFormatError):
        read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 19  # of KB


STRUCTURES = {
    "empty X": lambda file: (file.__delitem__("X"), file.__setitem__("X", h5py.Empty("f4"))),
    "indices of text": lambda file: (file.__delitem__("X/indices"), file.__setitem__("X/indices", [b"1"] * 99)),
    "indptr beyond the values": lambda file: file["X/indptr"].__setitem__(-1, 2**30),
    "indptr of 8 EiB": lambda file: (
        file.__delitem__("X/indptr"),
        file["X"].create_dataset("indptr", (2**60,), "i8", chunks=(2**10,)),
    ),
    "shape of text": lambda file: file["X"].attrs.__setitem__("shape", "abc"),
    "layers that are an array": lambda file: (file.__delitem__("layers"), file.__setitem__("layers", 3)),
    "too few codes": lambda file: (
        file.__delitem__("obs/condition/codes"),
        file.__setitem__("obs/condition/codes", np.zeros(1, "i1")),
    ),
    "columns that are a number": lambda file: file["obs"].attrs.__setitem__("column-order", 7),
    "a link to another file": lambda file: (
        file.__delitem__("X"),
        file.__setitem__("X", h5py.ExternalLink("other.h5ad", "/X")),
    ),
    "values in another file": lambda file: (
        file.__delitem__("X/data"),
        file["X"].create_dataset("data", (9,), "f4", external="/dev/zero"),
    ),
    "names that exceed memory": lambda file: (
        file.__delitem__("obs/_index"),
        file["obs"].create_dataset("_index", (2**44,), "S8", chunks=(2**10,)),
    ),
}


@pytest.mark.parametrize("name", STRUCTURES)
def test_structures_that_no_writer_makes_are_refused_in_words(tmp_path, name):
    path = tmp_path / "cells.h5ad"
    cells(scipy.sparse.csr_matrix(log1p_values())).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        STRUCTURES[name](file)
    with pytest.raises(CellsFormatError) as error:
        read(path)
    assert error.value.where == str(path)


def chunk_files(array: Path) -> list[Path]:
    return [file for file in array.rglob("*") if file.is_file() and not file.name.startswith((".z", "zarr"))]


@pytest.mark.parametrize("array", ["X/data", "X/indices", "X/indptr", "obs/condition/codes", "obs/_index"])
def test_zarr_with_absent_chunks_is_refused(tmp_path, array):
    with as_form(cells(scipy.sparse.csr_matrix(log1p_values())), "zarr", tmp_path) as path:
        read(path)
        (file,) = chunk_files(path / array)
        file.unlink()
        with pytest.raises(CellsFormatError, match="missing: the copy is incomplete"):
            read(path)


@pytest.mark.parametrize("array", ["X/data", "obs/condition/codes"])
def test_zarr_with_a_pipe_in_place_of_a_chunk_is_refused(tmp_path, array):
    with as_form(cells(scipy.sparse.csr_matrix(log1p_values())), "zarr", tmp_path) as path:
        (file,) = chunk_files(path / array)
        file.unlink()
        os.mkfifo(file)  # reading it would wait for a writer
        with pytest.raises(CellsFormatError, match="not a regular file"):
            read(path)


def test_zarr_leaves_out_chunks_of_the_only_category(tmp_path):
    adata = cells(scipy.sparse.csr_matrix(log1p_values()))
    adata.obs["organism"] = pd.Categorical(["human"] * adata.n_obs)
    with as_form(adata, "zarr", tmp_path) as path:
        assert not chunk_files(path / "obs/organism/codes")
        assert read(path).n_obs


def test_absent_chunks_of_a_dense_matrix_are_said(tmp_path):
    values = log1p_values()
    with as_form(cells(np.asarray(values)), "zarr", tmp_path) as path:
        assert not any("no file" in notice for notice in read(path).notices)
        for file in chunk_files(path / "X"):
            file.unlink()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert any("no file" in notice for notice in read(path).notices)


def test_pickles_in_zarr_are_refused(tmp_path):
    pytest.importorskip("zarr")
    path = tmp_path / "cells.zarr"
    with anndata.settings.override(zarr_write_format=2):
        cells(scipy.sparse.csr_matrix(log1p_values())).write_zarr(path)
    (path / ".zmetadata").unlink(missing_ok=True)
    array = path / "obs" / "condition" / "codes" / ".zarray"
    array.write_text(json.dumps(json.loads(array.read_text()) | {"filters": [{"id": "pickle"}]}))
    with pytest.raises(CellsFormatError, match=r"[Pp]ickle"):
        read(path)
