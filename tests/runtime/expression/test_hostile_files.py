"""Files that are damaged, incomplete, or made to harm."""

from __future__ import annotations

import contextlib
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

from scgenept_rt.errors import CellsFormatError, ControlCellsError
from scgenept_rt.expression import read_control_cells
from tests.runtime.expression.inputs import PANEL, as_form, cells, log1p_values, read


@pytest.fixture
def h5ad(tmp_path):
    path = tmp_path / "cells.h5ad"
    cells(scipy.sparse.csr_matrix(log1p_values())).write_h5ad(path)
    return path


@contextlib.contextmanager
def zarr_of(folder, zarr_format=None, conditions=None):
    form = {} if zarr_format is None else {"zarr_write_format": zarr_format, "allow_write_nullable_strings": True}
    adata = cells(scipy.sparse.csr_matrix(log1p_values()), conditions=conditions)
    with anndata.settings.override(**form), as_form(adata, "zarr", folder) as path:
        yield path


def heaps(path: Path) -> list[int]:
    data = path.read_bytes()
    return [at for at in range(0, len(data), 8) if data[at : at + 8] == b"GCOL\x01\0\0\0"]


def test_zeroed_heaps_of_texts_are_refused_where_hdf5_would_loop_for_ever(h5ad):
    sound = h5ad.read_bytes()
    for at in heaps(h5ad):
        h5ad.write_bytes(sound[: at + 64] + bytes(512) + sound[at + 576 :])
        with pytest.raises(CellsFormatError, match="damaged"):
            read(h5ad)


@pytest.mark.parametrize(("chunks", "length"), [(None, 2**31), ((2,), 2**32 - 1)])
def test_a_damaged_length_of_a_text_takes_no_memory(h5ad, chunks, length):
    with h5py.File(h5ad, "r+") as file:
        names = np.array([f"cell{row}" for row in range(30)], dtype=object)
        write_elem(file["obs"], "_index", names, dataset_kwargs={"chunks": chunks})
        array = file["obs/_index"]
        at = array.id.get_chunk_info(0).byte_offset if chunks else array.id.get_offset()
    read(h5ad)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with h5ad.open("r+b") as stream:
        stream.seek(at)
        stream.write(struct.pack("<I", length))
    with pytest.raises(CellsFormatError):
        read(h5ad)
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
    "labels in two dimensions": lambda file: write_elem(file["obs"], "condition", np.zeros((30, 2))),
    "labels that are one text": lambda file: write_elem(file["obs"], "condition", "c" * 30),
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
def test_structures_that_no_writer_makes_are_refused_in_words(h5ad, name):
    with h5py.File(h5ad, "r+") as file:
        STRUCTURES[name](file)
    with pytest.raises(CellsFormatError) as error:
        read(h5ad)
    assert error.value.where == str(h5ad)


def chunk_files(array: Path) -> list[Path]:
    return [file for file in array.rglob("*") if file.is_file() and not file.name.startswith((".z", "zarr"))]


@pytest.mark.parametrize("array", ["X/data", "X/indices", "X/indptr", "obs/condition/codes", "obs/_index"])
def test_zarr_with_absent_chunks_is_refused(tmp_path, array):
    with zarr_of(tmp_path) as path:
        read(path)
        (file,) = chunk_files(path / array)
        file.unlink()
        with pytest.raises(CellsFormatError, match="missing: the copy is incomplete"):
            read(path)


def write_column(path: Path, name: str, values: object, chunks: int, shards: int | None = None) -> list[Path]:
    """Write a column of obs in chunks; return the files of its values (those of the codes, of categories) in order."""
    zarr = pytest.importorskip("zarr")
    obs = zarr.open_group(path, mode="r+", use_consolidated=False)["obs"]
    with anndata.settings.override(zarr_write_format=obs.metadata.zarr_format):
        write_elem(obs, name, values, dataset_kwargs={"chunks": (chunks,), "shards": shards and (shards,)})
    obs.attrs["column-order"] = list(dict.fromkeys([*obs.attrs["column-order"], name]))
    zarr.consolidate_metadata(path)
    files = chunk_files(path / "obs" / name)
    return sorted(
        (file for file in files if not {"mask", "categories"} & {*file.parts}), key=lambda file: int(file.name)
    )


LABELS = np.array(["ctrl" if row % 3 == 0 else "A+ctrl" for row in range(30)], dtype=object)


@pytest.mark.parametrize(
    ("labels", "format_version", "chunks", "shards", "lost"),
    [
        (LABELS, 2, 4, None, 0),
        (LABELS, 3, 4, None, 3),
        (LABELS, 3, 4, None, -1),
        (pd.array([None, *LABELS[1:]], dtype="string"), 3, 4, None, -1),  # of its mask only the first chunk has a file
        (LABELS, 3, 2, 8, 0),
        (pd.Categorical(LABELS), 3, 2, 8, -1),  # the last shard has room for a chunk that there is not
    ],
)
def test_labels_with_absent_files_are_refused(tmp_path, labels, format_version, chunks, shards, lost):
    with zarr_of(tmp_path, format_version) as path:
        files = write_column(path, "condition", labels, chunks, shards)
        assert read(path).n_obs == sum(label == "ctrl" for label in labels if isinstance(label, str))
        files[lost].unlink()
        missing = r"column 'condition'.*1 chunk of its (texts|codes) is missing: the copy is incomplete"
        with pytest.raises(CellsFormatError, match=missing):
            read(path)


@pytest.mark.parametrize("labels", [LABELS, pd.array(LABELS, dtype="string")], ids=["text", "nullable"])
def test_text_that_is_no_categories_labels_cells_and_is_said_without_its_files(tmp_path, labels):
    with zarr_of(tmp_path, 3, conditions=False) as path:
        files = write_column(path, "guide", labels, 30)
        with pytest.raises(ControlCellsError, match="'guide' holds 'ctrl'"):
            read(path)
        for file in files:
            file.unlink()
        (notice,) = [notice for notice in read(path).notices if "no file" in notice]
        assert "'guide'" in notice
        for file in write_column(path, "condition", labels, 30):
            file.unlink()
        with pytest.raises(ControlCellsError, match=r"no labels at all .*'condition' have no file"):
            read(path)


@pytest.mark.parametrize("format_version", [2, 3])
def test_categories_without_their_file_are_refused(tmp_path, format_version):
    with zarr_of(tmp_path, format_version) as path:
        (file,) = chunk_files(path / "obs/condition/categories")
        file.unlink()
        with pytest.raises(CellsFormatError, match="column 'condition'"):
            read(path)


def test_cells_are_no_controls_if_a_column_that_may_label_them_cannot_be_read(tmp_path):
    with zarr_of(tmp_path, conditions=False) as path:
        write_column(path, "assigned", LABELS, 4)[0].unlink()
        with pytest.raises(CellsFormatError, match="column 'assigned'"):
            read(path)


FLAGS = {
    "bool": np.arange(30) % 3 == 0,
    "number": (np.arange(30) % 3 == 0).astype(np.int32),
    "nullable": pd.array([None if row % 5 == 4 else row % 3 == 0 for row in range(30)], dtype="boolean"),
}


@pytest.mark.parametrize("kind", FLAGS)
def test_absent_chunks_of_flags_in_use_are_said(tmp_path, kind):
    with zarr_of(tmp_path) as path:
        label = "1" if kind == "number" else "True"
        options = {"condition_key": "is_control", "control_label": label}
        files = write_column(path, "is_control", FLAGS[kind], 5)
        assert not any("no file" in notice for notice in read(path, **options).notices)
        files[0].unlink()
        assert any("is_control" in notice and "no file" in notice for notice in read(path, **options).notices)


def test_absent_chunks_of_groups_in_use_are_said(tmp_path):
    with zarr_of(tmp_path) as path:
        files = write_column(path, "batch", np.arange(30) // 15 + 1, 5)
        files[1].unlink()
        found = read_control_cells(path, PANEL, groupby="batch")
        assert found.groups.names == ("0", "1", "2")
        assert any("batch" in notice and "no file" in notice for notice in found.notices)
        assert not any("batch" in notice and "no file" in notice for notice in read(path).notices)


def test_a_column_of_empty_texts_has_no_files(tmp_path):
    with zarr_of(tmp_path) as path:
        assert not write_column(path, "condition_name", np.array([""] * 30, dtype=object), 4)
        assert read(path).n_obs


@pytest.mark.parametrize("array", ["X/data", "obs/condition/codes"])
def test_zarr_with_a_pipe_in_place_of_a_chunk_is_refused(tmp_path, array):
    with zarr_of(tmp_path) as path:
        (file,) = chunk_files(path / array)
        file.unlink()
        os.mkfifo(file)  # reading it would wait for a writer
        with pytest.raises(CellsFormatError, match="not a regular file"):
            read(path)


def test_a_pipe_in_place_of_an_h5ad_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.h5ad")
    with pytest.raises(CellsFormatError, match="not a regular file"):
        read(tmp_path / "pipe.h5ad")


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
    with zarr_of(tmp_path, 2) as path:
        (path / ".zmetadata").unlink(missing_ok=True)
        array = path / "obs" / "condition" / "codes" / ".zarray"
        array.write_text(json.dumps(json.loads(array.read_text()) | {"filters": [{"id": "pickle"}]}))
        with pytest.raises(CellsFormatError, match=r"[Pp]ickle"):
            read(path)
