"""Files of other programs: read as they are, or refused with the next step."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from scgenept_rt.errors import CellsFormatError, ExpressionValueError, GeneMatchError, OutputError, ScgeneptError
from scgenept_rt.perturbation import parse_perturbations
from tests.runtime.expression.inputs import (
    CONTROL_ROWS,
    ENCODINGS,
    GENES,
    IDS,
    N_OBS,
    PANEL,
    assert_controls,
    cells,
    log1p_values,
    proposed,
    read,
)

LABELS = ["ctrl" if row % 3 == 0 else "A" for row in range(N_OBS)]


def write_frame(parent, name, index, columns, *, order, encoding, fixed, categories):
    """Write obs or var as R's writers do: with few attributes, fixed-length text, categories apart."""
    text = np.bytes_ if fixed else object
    frame = parent.create_group(name)
    frame["_index"] = np.array(index, dtype=text)
    frame.attrs["_index"] = "_index"
    if order:
        frame.attrs["column-order"] = np.array(list(columns), dtype=h5py.string_dtype())
    if encoding:
        frame.attrs.update({"encoding-type": "dataframe", "encoding-version": encoding})
    for column, values in columns.items():
        if categories:
            distinct = sorted(set(values))
            frame[column] = np.array([distinct.index(value) for value in values], dtype=np.int8)
            frame.require_group("__categories")[column] = np.array(distinct, dtype=text)
            if categories == "referenced":
                frame[column].attrs["categories"] = frame["__categories"][column].ref
        else:
            frame[column] = np.array(values, dtype=text)


@pytest.mark.parametrize(
    ("order", "encoding", "fixed", "categories"),
    [
        (True, "0.2.0", False, None),
        (False, "0.1.0", True, "referenced"),
        (True, None, True, "apart"),
        (False, "0.2.0", False, "apart"),
        (False, None, True, None),
        (True, "0.1.0", False, "referenced"),
    ],
)
def test_files_of_r(tmp_path, order, encoding, fixed, categories):
    x = log1p_values()
    layout = {"order": order, "encoding": encoding, "fixed": fixed}
    with h5py.File(tmp_path / "cells.h5ad", "w") as file:
        file["X"] = x
        names = [f"cell{row}" for row in range(N_OBS)]
        write_frame(file, "obs", names, {"condition": LABELS}, **layout, categories=categories)
        write_frame(file, "var", GENES, {}, **layout, categories=None)
    control = read(tmp_path / "cells.h5ad")
    assert_controls(control, x)
    assert list(control.obs_names[:2]) == ["cell0", "cell3"]


@pytest.mark.parametrize("form", ["csr", "csc"])
def test_a_matrix_with_the_attributes_of_h5sparse(tmp_path, form):
    x = log1p_values()
    cells(ENCODINGS[form](x)).write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "r+") as file:
        attrs = file["X"].attrs
        attrs.update({"h5sparse_format": form, "h5sparse_shape": attrs["shape"]})
        for name in ("encoding-type", "encoding-version", "shape"):
            del attrs[name]
    assert_controls(read(tmp_path / "cells.h5ad"), x)


@pytest.mark.parametrize(("names", "missing_genes"), [(GENES, "zero"), (IDS, "error")])
def test_genes_as_rows(tmp_path, names, missing_genes):
    transposed = cells(log1p_values(), names=names).T
    transposed.write_h5ad(tmp_path / "cells.h5ad")
    in_column = transposed.copy()
    in_column.obs = in_column.obs.assign(symbol=in_column.obs_names).set_axis(map(str, range(in_column.n_obs)))
    for source in (transposed, tmp_path / "cells.h5ad", in_column):
        with pytest.raises(GeneMatchError, match="transposed") as caught:
            read(source, missing_genes=missing_genes)
        assert "adata.T" in caught.value.remedy
        assert not caught.value.options


@pytest.mark.parametrize(
    ("name", "content", "step"),
    [
        ("c.h5ad.gz", b"x", "gunzip"),
        ("c.rds", b"x", "zellkonverter"),
        ("c.h5Seurat", b"x", "SeuratDisk"),
        ("c.loom", b"x", "read_loom"),
        ("c.csv", b"x", "read_csv"),
        ("c.h5", b"x", "read_10x_h5"),
        ("c.h5ad", b"\x1f\x8b\x08", "gunzip"),
        ("c.h5ad", None, "read_10x_h5"),
    ],
)
def test_other_kinds_of_files_are_told_the_conversion(tmp_path, name, content, step):
    path = tmp_path / name
    if content is None:
        with h5py.File(path, "w") as file:
            file.create_group("matrix")
    else:
        path.write_bytes(content)
    with pytest.raises(CellsFormatError) as caught:
        read(path)
    assert step in caught.value.remedy


def test_a_file_that_is_open_for_writing_elsewhere(tmp_path):
    path = tmp_path / "cells.h5ad"
    cells(log1p_values()).write_h5ad(path)
    code = "import sys, h5py; file = h5py.File(sys.argv[1], 'r+'); print('open', flush=True); input()"
    holding = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(holding, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(CellsFormatError, match="has it open for writing") as caught:
            read(path)
        holder.communicate("\n")
    assert "HDF5_USE_FILE_LOCKING" in caught.value.remedy
    assert read(path).n_obs == len(CONTROL_ROWS)


def test_a_full_directory_of_temporary_files_is_named():
    """A limit of the size of files, as mounting a small file system takes rights that tests may not have."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(OutputError, match="TMPDIR") as caught:
            read(cells(scipy.sparse.csr_matrix(log1p_values())), spill_bytes=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.where == tempfile.gettempdir()


@pytest.mark.parametrize(("given", "meant"), [([["A", "B"]], "A+B"), ([("A", "ctrl")], "A+ctrl"), ([["A"]], "'A'")])
def test_lists_in_the_place_of_labels(given, meant):
    with pytest.raises(ScgeneptError) as caught:
        parse_perturbations(given, PANEL)
    assert meant in caught.value.remedy


@pytest.mark.parametrize(
    ("label", "meant"),
    [("A_g1", "A"), ("sgA", "A"), ("A-1", "A"), ("A_B__A_B", "A+B"), ("A+NT", "ctrl")],
)
def test_guides_are_told_their_genes(label, meant):
    with pytest.raises(ScgeneptError) as caught:
        parse_perturbations([label], PANEL)
    assert f"did you mean {meant}?" in str(caught.value)


def test_a_compression_that_hdf5_lacks(tmp_path):
    cells(log1p_values()).write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "r+") as file:
        del file["X"]
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((1, 8))
        properties.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)  # zstd
        x = h5py.h5d.create(file.id, b"X", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple((N_OBS, 8)), properties)
        for row in range(N_OBS):
            x.write_direct_chunk((row, 0), b"zstd")
    with pytest.raises(CellsFormatError, match="compression") as caught:
        read(tmp_path / "cells.h5ad")
    assert "pip install hdf5plugin" in caught.value.remedy


def as_10x(adata):
    adata.var = pd.DataFrame({"gene_ids": IDS, "feature_types": "Gene Expression", "genome": "GRCh38"}, index=[*GENES])


def as_cellxgene(adata):
    adata.var = pd.DataFrame({"feature_name": pd.Categorical(GENES), "feature_is_filtered": False}, index=[*IDS])
    adata.var["feature_biotype"] = pd.Categorical(["gene"] * 8)
    adata.var["feature_reference"] = pd.Categorical(["NCBITaxon:9606"] * 8)
    adata.obs["cell_type"] = pd.Categorical(["CD4-positive, alpha-beta T cell"] * N_OBS)
    adata.obs["disease"] = pd.Categorical(["normal"] * N_OBS)
    adata.obs["is_primary_data"] = True
    adata.uns["schema_version"] = "5.2.0"


def as_zellkonverter(adata):
    adata.uns["X_name"] = "logcounts"
    adata.layers["counts"] = np.round(adata.X)


@pytest.mark.parametrize("form", [as_10x, as_cellxgene, as_zellkonverter])
def test_files_of_other_programs_give_no_warning(tmp_path, form):
    adata = cells(log1p_values(), conditions=False)
    form(adata)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    control = read(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(control.values.dense(0, N_OBS), adata.X.astype(np.float32))
    assert not any("Warning" in notice for notice in control.notices), control.notices


@pytest.mark.parametrize("name", ["logcounts", "log1p_counts"])
def test_counts_of_zellkonverter_are_told_the_layer_of_logarithms(name):
    adata = cells(np.round(4 * log1p_values()))
    adata.layers[name], adata.layers["rawcounts"] = log1p_values(), adata.X
    with pytest.raises(ExpressionValueError) as caught:
        read(adata)
    assert proposed(caught)["layer"] == name
    assert read(adata, layer=name).n_obs == len(CONTROL_ROWS)
