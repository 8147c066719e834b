"""Inputs of every form: on disk and in memory, whole, backed and as views."""

from __future__ import annotations

from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from scgenept_rt.errors import CellsFormatError, FieldNotFoundError, ScgeneptError
from tests.runtime.expression.inputs import (
    CONTROL_ROWS,
    ENCODINGS,
    GENES,
    N_OBS,
    as_form,
    assert_controls,
    cells,
    log1p_values,
    proposed,
    read,
)

FORMS = ["h5ad", "zarr", "memory", "backed", "view", "backed view"]


@pytest.mark.parametrize(
    ("form", "place", "encoding"),
    [
        (form, place, [*ENCODINGS][(i + j) % 3])  # every two of them together
        for i, form in enumerate(FORMS)
        for j, place in enumerate(["X", "layer", "raw"])
    ],
)
def test_every_form_gives_the_same_control_cells_in_model_order(tmp_path, form, place, encoding):
    x = log1p_values()
    order = [5, 2, 7, 0, 1, 6, 3, 4]
    stored = ENCODINGS[encoding](x[:, order])
    adata = cells(stored, [GENES[column] for column in order])
    if place != "X":
        adata.raw = adata
        adata.layers["lognorm"] = stored
        adata.X = ENCODINGS[encoding](np.zeros_like(x) + 0.5)
    with as_form(adata, form, tmp_path) as source:
        options = {"layer": "lognorm" if place == "layer" else None, "use_raw": place == "raw"}
        control = read(source, spill_bytes=0 if form == "zarr" else 2**20, **options)
    assert_controls(control, x)
    assert control.n_available == len(CONTROL_ROWS)
    assert (control.condition_key, control.control_label) == ("condition", "ctrl")
    assert control.fingerprint == read(cells(x)).fingerprint
    control.close()


def test_a_view_with_its_own_rows_and_genes():
    x = log1p_values()
    adata = cells(scipy.sparse.csr_matrix(x))
    genes = [3, 1, 0, 2, 7, 5, 6, 4]
    rows = [row for row in range(N_OBS - 1, 9, -1) if row % 3 == 0]
    for view in (adata[::-1, genes][:20], adata[::-1, ::-1][:20]):
        control = read(view)
        assert list(control.obs_names) == [f"cell{row}" for row in rows]
        assert_controls(control, x, rows)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_reversed_view_of_a_backed_object_is_refused(tmp_path, encoding):
    source = as_form(cells(ENCODINGS[encoding](log1p_values())), "backed", tmp_path)
    with source as backed, pytest.raises(CellsFormatError):  # anndata gives no or too few values
        read(backed[::-1])


@pytest.mark.parametrize("form", ["dask", "dask layer", "lazy"])
def test_cells_that_are_not_loaded_yet_say_how_to_load_them(tmp_path, form):
    reason = "make test-newest installs it"
    dask, _ = pytest.importorskip("dask.array", reason=reason), pytest.importorskip("xarray", reason=reason)
    source, options = cells(log1p_values()), {}
    array = dask.from_array(log1p_values(), chunks=(4, -1))
    if form == "lazy":
        source.write_h5ad(tmp_path / "cells.h5ad")
        source = anndata.experimental.read_lazy(tmp_path / "cells.h5ad")
    elif form == "dask":
        source.X = array
    else:
        source.layers["lognorm"], options = array, {"layer": "lognorm"}
    with pytest.raises(CellsFormatError) as caught:
        read(source, **options)
    assert "adata.to_memory()" in caught.value.remedy
    assert_controls(read(source.to_memory(), **options), log1p_values())


def test_an_empty_entry_in_place_of_raw(tmp_path):
    x = log1p_values()
    with h5py.File(tmp_path / "cells.h5ad", "w") as file:
        anndata.io.write_elem(file, "/", cells(x))
        if "raw" not in file:  # as anndata 0.12 writes it
            file["raw"] = h5py.Empty("f4")
    assert_controls(read(tmp_path / "cells.h5ad"), x)
    with pytest.raises(FieldNotFoundError, match="it has no raw"):
        read(tmp_path / "cells.h5ad", use_raw=True)


@pytest.mark.parametrize(("zarr_format", "encoding"), [(2, "csr"), (3, "csc"), (2, "dense")])
def test_both_formats_of_zarr(tmp_path, encoding, zarr_format):
    x = log1p_values()
    with (
        anndata.settings.override(zarr_write_format=zarr_format),
        as_form(cells(ENCODINGS[encoding](x)), "zarr", tmp_path) as source,
    ):
        assert (source / "zarr.json").exists() == (zarr_format == 3)
        assert_controls(read(source), x)


@pytest.mark.parametrize("there", [[], ["layer"], ["use_raw"], ["layer", "use_raw"]])
def test_an_input_without_x(tmp_path, there):
    adata = anndata.AnnData(obs=pd.DataFrame(index=["c1", "c2"]), var=pd.DataFrame(index=list(GENES)))
    if "use_raw" in there:
        adata.raw = anndata.AnnData(np.ones((2, 8)), obs=adata.obs, var=adata.var)
    if "layer" in there:
        adata.layers["lognorm"] = np.ones((2, 8))
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for source in (adata, adata[:], tmp_path / "cells.h5ad"):
        with pytest.raises(FieldNotFoundError, match=r"it has no X\.") as caught:
            read(source)
        options = proposed(caught)
        assert options == {name: {"layer": "lognorm", "use_raw": True}[name] for name in there}
        for name, value in options.items():
            assert_controls(read(source, **{name: value}), np.ones((2, 8)), [0, 1])
        with pytest.raises(FieldNotFoundError, match="it has no layer 'a'"):
            read(source, layer="a")


@pytest.mark.parametrize("ending", ["H5AD", "ZARR"])
def test_endings_in_capitals(tmp_path, ending):
    x = log1p_values()
    with as_form(cells(x), ending.lower(), tmp_path) as written:
        source = Path(written).rename(tmp_path / f"renamed.{ending}")
    assert_controls(read(source), x)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (None, "None"),
        (np.ones((2, 8)), "an object of type ndarray"),
        (pd.DataFrame(np.ones((2, 8))), "an object of type DataFrame"),
    ],
)
def test_what_is_neither_a_path_nor_an_anndata(given, found):
    with pytest.raises(ScgeneptError, match=rf"cells are {found}, expected an AnnData, or the path of") as caught:
        read(given)
    assert isinstance(caught.value, TypeError)
