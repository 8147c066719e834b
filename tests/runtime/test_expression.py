from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st

from scgenept_rt.errors import (
    AmbiguousControlLabelError,
    CellsError,
    CellsFormatError,
    CellsNotFoundError,
    DuplicateGeneNamesError,
    EmptyCellsError,
    GeneKeyError,
    MissingGenesError,
    NegativeValueError,
    NoControlCellsError,
    NonFiniteValueError,
    NotLogTransformedError,
    RawCountsError,
    ReadOptionError,
    SamplingError,
    TooFewControlCellsError,
    ValuesShapeError,
    ZarrMissingError,
)
from scgenept_rt.expression import ReadOptions, Sampling, from_array, matrix_rows, read_control_cells
from scgenept_rt.genes import GenePanel

GENES = tuple("ABCDEFGH")
IDS = tuple(f"ENSG{number:011d}" for number in range(1, 9))
PANEL = GenePanel(GENES, IDS, np.array([True] * 6 + [False] * 2))
N_OBS = 30
CONTROL_ROWS = np.arange(0, N_OBS, 3)
ENCODINGS = {"csr": scipy.sparse.csr_matrix, "csc": scipy.sparse.csc_matrix, "dense": np.asarray}
FORMS = ["h5ad", "zarr", "memory", "backed", "view", "backed view"]


def log1p_values(seed=0, n_obs=N_OBS, n_vars=8):
    generator = np.random.default_rng(seed)
    return np.log1p(generator.poisson(0.6, (n_obs, n_vars)) * generator.uniform(0.5, 2, (n_obs, 1)))


def cells(x, names=GENES, conditions=None, key="condition"):
    """Return an AnnData whose rows 0, 3, 6 ... are `ctrl`, unless `conditions` are given (False for no column)."""
    n_obs = x.shape[0]
    if conditions is None:
        conditions = pd.Categorical(["ctrl" if row % 3 == 0 else "A+ctrl" for row in range(n_obs)])
    obs = pd.DataFrame(index=[f"cell{row}" for row in range(n_obs)])
    if conditions is not False:
        obs[key] = conditions
    return anndata.AnnData(x, obs=obs, var=pd.DataFrame(index=list(names)))


@contextlib.contextmanager
def as_form(adata, form, folder):
    """Give `adata` as a path or an object of another form."""
    if form == "memory":
        yield adata
    elif form == "view":
        yield adata[:]
    elif form == "zarr":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            adata.write_zarr(folder / "cells.zarr")
        yield folder / "cells.zarr"
    else:
        path = folder / "cells.h5ad"
        adata.write_h5ad(path)
        if form == "h5ad":
            yield str(path)
        else:
            backed = anndata.read_h5ad(path, backed="r")
            yield backed if form == "backed" else backed[:]
            backed.file.close()


def read(source, panel=PANEL, sampling=None, spill_bytes=2**20, **options):
    return read_control_cells(source, panel, options=ReadOptions(**options), sampling=sampling, spill_bytes=spill_bytes)


# --- forms ---


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("where", ["X", "layer", "raw"])
def test_every_form_gives_the_control_rows_in_model_order(tmp_path, form, encoding, where):
    x = log1p_values()
    order = [5, 2, 7, 0, 1, 6, 3, 4]
    stored = ENCODINGS[encoding](x[:, order])
    adata = cells(stored, [GENES[column] for column in order])
    if where != "X":
        other = ENCODINGS[encoding](np.zeros_like(x) + 0.5)
        adata.raw = adata
        adata.layers["lognorm"] = stored
        adata.X = other
    with as_form(adata, form, tmp_path) as source:
        control = read(source, layer="lognorm" if where == "layer" else None, use_raw=where == "raw")
    assert control.n_obs == len(CONTROL_ROWS) == control.n_available
    assert list(control.obs_names) == [f"cell{row}" for row in CONTROL_ROWS]
    dense = control.dense(0, control.n_obs)
    np.testing.assert_array_equal(dense, x[CONTROL_ROWS].astype(np.float32))
    assert dense.dtype == np.float32
    assert dense.flags.c_contiguous
    assert (control.condition_key, control.control_label) == ("condition", "ctrl")


DTYPES = ["float32", "float64", "int8", "int32", "int64", "uint16"]
DENSE_DTYPES = ["float16", ">f4"]  # SciPy has no sparse matrix of these


@pytest.mark.parametrize("form", ["h5ad", "zarr", "memory"])
@pytest.mark.parametrize(
    ("encoding", "dtype"),
    [(encoding, dtype) for encoding in ENCODINGS for dtype in DTYPES] + [("dense", dtype) for dtype in DENSE_DTYPES],
)
def test_every_real_dtype(tmp_path, form, encoding, dtype):
    x = np.minimum(log1p_values(), 2).astype(dtype)
    with as_form(cells(ENCODINGS[encoding](x)), form, tmp_path) as source:
        control = read(source)
    np.testing.assert_array_equal(control.dense(0, control.n_obs), x[CONTROL_ROWS].astype(np.float32))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_pieces_of_any_size_give_the_same_values(tmp_path, monkeypatch, encoding):
    x = log1p_values()
    adata = cells(ENCODINGS[encoding](x))
    adata.write_h5ad(tmp_path / "cells.h5ad")
    whole = read(tmp_path / "cells.h5ad")
    for name in ("_READ_VALUES", "_READ_DENSE_VALUES", "_GAP_VALUES", "_BAND_BYTES"):
        monkeypatch.setattr(matrix_rows, name, 3)
    pieces = read(tmp_path / "cells.h5ad")
    np.testing.assert_array_equal(pieces.dense(0, 10), x[CONTROL_ROWS].astype(np.float32))
    assert pieces.fingerprint == whole.fingerprint


class Recorder:
    """An array that notes which slices are read."""

    def __init__(self, array):
        self.array = array
        self.dtype = array.dtype
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
    pieces = list(matrix.pieces(rows, np.arange(20)))
    assert sum(piece.shape[0] for piece in pieces) == len(rows)
    assert arrays["data"].lengths == [60, 60, 100, 40]  # 500 to 502 reads one row along
    assert max(arrays["indices"].lengths) <= 100


def test_stored_entries_in_any_order_and_in_parts_are_as_scipy_reads_them():
    x = scipy.sparse.csr_matrix(
        (np.array([0.5, 1.5, 0.25, 0.25, 0.0, 2.5]), np.array([7, 0, 3, 3, 1, 2]), np.array([0, 2, 5, 6])), (3, 8)
    )
    control = read(cells(x, conditions=False))
    expected = np.zeros((3, 8), np.float32)
    expected[0, [0, 7]], expected[1, 3], expected[2, 2] = [1.5, 0.5], 0.5, 2.5
    np.testing.assert_array_equal(control.dense(0, 3), expected)
    assert control.fingerprint == read(cells(expected, conditions=False)).fingerprint


def test_a_view_with_its_own_rows_and_genes():
    x = log1p_values()
    adata = cells(scipy.sparse.csr_matrix(x))
    genes = [3, 1, 0, 2, 7, 5, 6, 4]
    rows = [row for row in range(N_OBS - 1, 9, -1) if row % 3 == 0]
    for view in (adata[::-1, genes][:20], adata[::-1, ::-1][:20]):
        control = read(view)
        assert list(control.obs_names) == [f"cell{row}" for row in rows]
        np.testing.assert_array_equal(control.dense(0, len(rows)), x[rows].astype(np.float32))


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_both_formats_of_zarr(tmp_path, encoding, zarr_format):
    x = log1p_values()
    with (
        anndata.settings.override(zarr_write_format=zarr_format),
        as_form(cells(ENCODINGS[encoding](x)), "zarr", tmp_path) as source,
    ):
        assert (source / "zarr.json").exists() == (zarr_format == 3)
        np.testing.assert_array_equal(read(source).dense(0, 10), x[CONTROL_ROWS].astype(np.float32))


def test_the_form_of_files_before_anndata_0_8(tmp_path):
    x = log1p_values()
    path = tmp_path / "old.h5ad"
    adata = cells(scipy.sparse.csr_matrix(x))
    adata.write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["obs"]["condition"]
        obs = file["obs"]
        obs.attrs["encoding-version"] = "0.1.0"
        categories = obs.create_dataset("__categories/condition", data=np.array(["A+ctrl", "ctrl"], dtype="S"))
        codes = np.where(np.arange(N_OBS) % 3 == 0, 1, 0).astype(np.int8)
        obs.create_dataset("condition", data=codes).attrs["categories"] = categories.ref
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        control = read(path)
    np.testing.assert_array_equal(control.dense(0, 10), x[CONTROL_ROWS].astype(np.float32))


# --- properties ---


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    order=st.permutations(range(10)),
    encoding=st.sampled_from(sorted(ENCODINGS)),
    spelling=st.sampled_from(["symbols", "ids", "versioned ids", "gene_name"]),
)
def test_the_order_and_spelling_of_genes_never_change_values(seed, order, encoding, spelling):
    x = log1p_values(seed, n_vars=10)
    expected = read(cells(x, [*GENES, "other1", "other2"]))
    names = np.array([*(IDS if "ids" in spelling else GENES), "other1", "other2"], dtype=object)[order]
    if spelling == "versioned ids":
        names = np.array([f"{name}.{place}" if name.startswith("ENSG") else name for place, name in enumerate(names)])
    adata = cells(ENCODINGS[encoding](x[:, order]), names)
    if spelling == "gene_name":
        adata.var["gene_name"] = names
        adata.var_names = [str(number) for number in range(10)]
    control = read(adata)
    assert control.fingerprint == expected.fingerprint
    np.testing.assert_array_equal(control.dense(0, control.n_obs), expected.dense(0, expected.n_obs))
    assert control.match.source == ("gene_name" if spelling == "gene_name" else "var_names")
    assert control.match.n_by_id == (8 if "ids" in spelling else 0)


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 1000),
    n_obs=st.integers(1, 12),
    controls=st.data(),
    mode=st.sampled_from(["all", "random", "upstream"]),
)
def test_the_form_of_the_input_never_changes_the_control_cells(seed, n_obs, controls, mode):
    x = log1p_values(seed, n_obs)
    is_control = controls.draw(st.lists(st.booleans(), min_size=n_obs, max_size=n_obs).filter(any))
    conditions = ["control" if flag else "A" for flag in is_control]
    sampling = Sampling(mode, seed=seed)
    expected = read(cells(x, conditions=conditions), sampling=sampling)
    for encoding in ENCODINGS:
        for form in ("h5ad", "zarr", "view"):
            folder = Path(tempfile.mkdtemp())
            try:
                with as_form(cells(ENCODINGS[encoding](x), conditions=conditions), form, folder) as source:
                    control = read(source, sampling=sampling, spill_bytes=0 if form == "zarr" else 2**20)
                np.testing.assert_array_equal(control.dense(0, len(control)), expected.dense(0, len(expected)))
                assert list(control.obs_names) == list(expected.obs_names)
                assert control.fingerprint == expected.fingerprint
                control.close()
            finally:
                shutil.rmtree(folder)


# --- control cells ---


@pytest.mark.parametrize("spill_bytes", [0, 2**20])
@pytest.mark.parametrize("mode", ["all", "random", "upstream"])
def test_reading_cells(tmp_path, monkeypatch, spill_bytes, mode):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    x = log1p_values(n_obs=300).astype(np.float32)
    with read(cells(x, conditions=False), sampling=Sampling(mode, seed=3), spill_bytes=spill_bytes) as control:
        assert control.spilled == (spill_bytes == 0)
        rows = np.array([int(name.removeprefix("cell")) for name in control.obs_names])
        np.testing.assert_array_equal(control.dense(0, 300), x[rows])
        np.testing.assert_array_equal(control.dense(17, 40), x[rows[17:40]])
        assert control.dense(5, 5).shape == (0, 8)
        wanted = [299, 0, 0, 7, 8, 9, 3]
        np.testing.assert_array_equal(control.gather(wanted), x[rows[wanted]])
        assert control.gather([]).shape == (0, 8)
        out = np.full((4, 8), 9, np.float32)
        assert control.dense(2, 6, out=out) is out
        np.testing.assert_array_equal(out, x[rows[2:6]])
        np.testing.assert_allclose(control.mean(), x[rows].astype(np.float64).mean(axis=0), rtol=1e-14)
        np.testing.assert_allclose(control.mean(50), x[rows[:50]].astype(np.float64).mean(axis=0), rtol=1e-14)
        with ThreadPoolExecutor(4) as pool:
            for start, part in enumerate(pool.map(lambda start: control.dense(start, start + 9), range(200))):
                np.testing.assert_array_equal(part, x[rows[start : start + 9]])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="closed"):
        control.dense(0, 1)


def test_the_mean_over_many_steps_does_not_depend_on_where_values_lie(monkeypatch):
    monkeypatch.setattr("scgenept_rt.expression.control_cells._VALUES_PER_STEP", 10)
    x = log1p_values(n_obs=50)
    held, spilled = (read(cells(x, conditions=False), spill_bytes=size) for size in (2**20, 0))
    np.testing.assert_array_equal(held.mean(), spilled.mean())
    np.testing.assert_allclose(held.mean(), x.astype(np.float32).astype(np.float64).mean(axis=0), rtol=1e-14)


def test_an_interrupted_read_leaves_no_temporary_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    x = log1p_values()
    x[CONTROL_ROWS[-1], 0] = np.nan
    monkeypatch.setattr(matrix_rows, "_READ_DENSE_VALUES", 8)
    with pytest.raises(NonFiniteValueError):
        read(cells(x), spill_bytes=0)
    assert list(tmp_path.iterdir()) == []


def test_ranges_and_buffers_that_do_not_fit():
    control = read(cells(log1p_values()))
    for start, stop in [(-1, 2), (3, 2), (0, 11)]:
        with pytest.raises(IndexError, match="of 10"):
            control.dense(start, stop)
    for indices in ([10], [-1]):
        with pytest.raises(IndexError, match="of 10"):
            control.gather(indices)
    for out in (np.zeros((2, 8)), np.zeros((3, 8), np.float32), np.zeros((8, 2), np.float32).T):
        with pytest.raises(ValueError, match=r"expected C-contiguous float32 \(2, 8\)"):
            control.dense(0, 2, out=out)
    for n_cells in (0, 11):
        with pytest.raises(ValueError, match="expected 1 to 10"):
            control.mean(n_cells)


def test_the_fingerprint_changes_with_values_names_and_order():
    x = log1p_values()
    base = read(cells(x)).fingerprint
    changed = x.copy()
    changed[0, 0] += 1
    renamed = cells(x)
    renamed.obs_names = [f"{name}-1" for name in renamed.obs_names]
    elsewhere = x.copy()
    elsewhere[1] += 1  # not a control cell
    assert read(cells(changed)).fingerprint != base
    assert read(renamed).fingerprint != base
    assert read(cells(x), sampling=Sampling("random", seed=1)).fingerprint != base
    assert read(cells(elsewhere)).fingerprint == base


# --- sampling ---


def test_upstream_sampling_draws_what_the_published_code_drew():
    # Recorded from pred_perturb_from_ctrl after np.random.seed(123), 6 control cells, pool_size None and 5.
    assert Sampling("upstream", seed=123).draw(6).tolist() == [5, 2, 4, 2, 1, 3]
    assert Sampling("upstream", n_controls=5, seed=123).draw(6).tolist() == [5, 2, 4, 2, 1]


def test_upstream_sampling_repeats_cells_in_draw_order():
    x = log1p_values(n_obs=6)
    control = read(cells(x, conditions=False), sampling=Sampling("upstream", seed=123))
    assert list(control.obs_names) == ["cell5", "cell2", "cell4", "cell2", "cell1", "cell3"]
    np.testing.assert_array_equal(control.dense(0, 6), x[[5, 2, 4, 2, 1, 3]].astype(np.float32))
    assert control.n_available == 6


def test_upstream_sampling_may_draw_more_than_there_are():
    assert read(cells(log1p_values(n_obs=3), conditions=False), sampling=Sampling("upstream", 10)).n_obs == 10


def test_sampling_without_replacement():
    drawn = Sampling("random", n_controls=20, seed=4).draw(50)
    assert len(set(drawn.tolist())) == 20
    assert drawn.tolist() != sorted(drawn.tolist())
    assert Sampling("random", n_controls=7, seed=4).draw(50).tolist() == drawn[:7].tolist()
    assert Sampling("random", n_controls=20, seed=5).draw(50).tolist() != drawn.tolist()
    assert Sampling("all", n_controls=20, seed=4).draw(50).tolist() == sorted(drawn.tolist())
    assert sorted(Sampling("random", seed=4).draw(50).tolist()) == list(range(50))
    assert Sampling("all", seed=4).draw(50).tolist() == list(range(50))


@pytest.mark.parametrize("mode", ["all", "random"])
def test_more_cells_than_there_are(mode):
    with pytest.raises(TooFewControlCellsError, match=r"11 control cells were asked for, the input has 10.*upstream"):
        read(cells(log1p_values()), sampling=Sampling(mode, n_controls=11))


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        ({"mode": "some"}, "unknown sampling 'some'. Expected one of all, random, upstream"),
        ({"n_controls": 0}, "n_controls is 0. Expected 1 or more"),
        ({"seed": -1}, "seed is -1. Expected a number from 0 to 4294967295"),
    ],
)
def test_sampling_that_makes_no_sense(arguments, fact):
    with pytest.raises(SamplingError, match=fact):
        Sampling(**arguments)


# --- labels ---


@pytest.mark.parametrize("key", ["condition", "perturbation", "target_gene", "gene"])
@pytest.mark.parametrize("label", ["ctrl", "control", "non-targeting"])
@pytest.mark.parametrize("form", ["h5ad", "memory"])
def test_columns_and_labels_of_the_field(tmp_path, key, label, form):
    conditions = ["A", label, None, label, "B"]
    adata = cells(log1p_values(n_obs=5), conditions=conditions, key=key)
    adata.obs[key] = adata.obs[key].astype("category")
    with as_form(adata, form, tmp_path) as source:
        control = read(source)
    assert list(control.obs_names) == ["cell1", "cell3"]
    assert (control.condition_key, control.control_label) == (key, label)


@pytest.mark.parametrize(
    "conditions",
    [
        ["ctrl", "A", np.nan, "ctrl "],
        pd.Categorical(["ctrl", "A", None, "ctrl"], categories=["non-targeting", "A", "ctrl"]),
        pd.array(["ctrl", "A", pd.NA, "ctrl"], dtype="string"),
        ["ctrl", 1.5, 7, "ctrl"],
    ],
)
def test_missing_unused_and_odd_labels(conditions):
    assert list(read(cells(log1p_values(n_obs=4), conditions=conditions)).obs_names) == ["cell0", "cell3"]


def test_numeric_labels_by_their_text():
    control = read(cells(log1p_values(n_obs=3), conditions=[0, 1, 0]), control_label="0")
    assert list(control.obs_names) == ["cell0", "cell2"]


def test_the_first_column_that_holds_a_control_label_is_taken_and_named():
    adata = cells(log1p_values(n_obs=3), conditions=["day0", "day1", "day2"])
    adata.obs["gene"] = ["A", "non-targeting", "B"]
    control = read(adata)
    assert control.condition_key == "gene"
    assert "obs has the columns condition, gene; control cells are those with gene = non-targeting." in control.notices


def test_condition_key_and_control_label_override():
    adata = cells(log1p_values(n_obs=4), conditions=["ctrl", "A", "A", "control"])
    adata.obs["arm"] = ["x", "DMSO", "DMSO", "y"]
    assert list(read(adata, condition_key="arm", control_label="DMSO").obs_names) == ["cell1", "cell2"]
    assert list(read(adata, control_label="control").obs_names) == ["cell3"]


def test_two_labels_that_may_be_the_control():
    adata = cells(log1p_values(n_obs=4), conditions=["ctrl", "control", "ctrl", "A"])
    with pytest.raises(AmbiguousControlLabelError) as caught:
        read(adata)
    message = str(caught.value)
    assert "obs column 'condition'" in message
    assert "'ctrl' (2 cells) and 'control' (1 cells)" in message
    assert "--control-label ctrl" in message


def test_no_column_takes_all_rows_and_says_so():
    control = read(cells(log1p_values(n_obs=4), conditions=False))
    assert (control.n_obs, control.condition_key, control.control_label) == (4, None, None)
    assert any("all 4 cells are taken as control cells" in notice for notice in control.notices)


def test_no_control_cells_names_column_and_frequent_labels():
    adata = cells(log1p_values(n_obs=6), conditions=["A", "B", "B", "unperturbed", "unperturbed", "unperturbed"])
    with pytest.raises(NoControlCellsError) as caught:
        read(adata)
    message = str(caught.value)
    assert "'condition' has no control cells, expected 'ctrl' or 'control' or 'non-targeting'" in message
    assert "'unperturbed' (3), 'B' (2), 'A' (1)" in message
    assert "--control-label" in message
    assert "--condition-key" in message
    with pytest.raises(NoControlCellsError, match="expected 'NT'"):
        read(adata, control_label="NT")


def test_options_that_name_what_is_not_there(tmp_path):
    adata = cells(log1p_values())
    adata.layers["lognorm"] = adata.X
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for source in (adata, tmp_path / "cells.h5ad"):
        with pytest.raises(ReadOptionError, match=r"no layer 'counts' \(it has: lognorm\)"):
            read(source, layer="counts")
        with pytest.raises(ReadOptionError, match="no raw"):
            read(source, use_raw=True)
        with pytest.raises(ReadOptionError, match=r"no column 'arm' \(it has: condition\).*--condition-key"):
            read(source, condition_key="arm")
        with pytest.raises(GeneKeyError, match="no column 'symbol'"):
            read(source, gene_key="symbol")
        with pytest.raises(ReadOptionError, match="'lognorm' was asked for as well"):
            read(source, layer="lognorm", use_raw=True)
    with pytest.raises(ReadOptionError, match=r"control label 'NT'.*--condition-key"):
        read(cells(log1p_values(), conditions=False), control_label="NT")


def test_an_input_without_x(tmp_path):
    adata = anndata.AnnData(obs=pd.DataFrame(index=["c1"]), var=pd.DataFrame(index=list(GENES)))
    adata.layers["lognorm"] = np.ones((1, 8))
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for source in (adata, tmp_path / "cells.h5ad"):
        with pytest.raises(ReadOptionError, match=r"no X.*--layer \(it has: lognorm\)"):
            read(source)
        np.testing.assert_array_equal(read(source, layer="lognorm").dense(0, 1), np.ones((1, 8)))


# --- genes ---


def test_missing_genes_are_an_error_or_zero():
    x = log1p_values()
    adata = cells(x[:, :5], GENES[:5])
    with pytest.raises(
        MissingGenesError, match="3 of the model's 8 genes are missing from var_names: F, G, H"
    ) as caught:
        read(adata)
    assert "--missing-genes zero" in str(caught.value)
    assert caught.value.missing == ("F", "G", "H")
    control = read(adata, missing_genes="zero")
    expected = np.hstack([x[CONTROL_ROWS, :5], np.zeros((10, 3))]).astype(np.float32)
    np.testing.assert_array_equal(control.dense(0, 10), expected)
    assert "Genes of the model that the input lacks were taken as not expressed (3): F, G, H." in control.notices
    assert any("5 of the model's 8 genes were found" in notice for notice in control.notices)


def test_missing_genes_point_at_raw_where_it_has_more(tmp_path):
    x = log1p_values()
    adata = cells(x)
    adata.raw = adata
    adata = adata[:, :5].copy()
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for source in (adata, tmp_path / "cells.h5ad"):
        with pytest.raises(MissingGenesError, match=r"raw holds 8 genes: --use-raw"):
            read(source)
        np.testing.assert_array_equal(read(source, use_raw=True).dense(0, 10), x[CONTROL_ROWS].astype(np.float32))


def test_no_gene_at_all_is_never_taken_as_zero():
    adata = cells(log1p_values(), [f"probe{number}" for number in range(8)])
    with pytest.raises(
        MissingGenesError, match=r"none of the model's 8 genes was found; var_names holds probe0, probe1, probe2"
    ) as caught:
        read(adata, missing_genes="zero")
    assert "--gene-key" in str(caught.value)


def test_duplicate_names_that_the_model_needs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adata = cells(log1p_values(n_vars=9), [*GENES, "B"])
    with pytest.raises(DuplicateGeneNamesError, match=r"B \(2 of the input\)"):
        read(adata)


def test_gene_key_takes_any_column(tmp_path):
    x = log1p_values()
    adata = cells(x)
    adata.var["symbol"] = list(reversed(GENES))
    adata.var_names.name = "index_of_mine"
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for source in (adata, tmp_path / "cells.h5ad"):
        control = read(source, gene_key="symbol")
        np.testing.assert_array_equal(control.dense(0, 10), x[CONTROL_ROWS, ::-1].astype(np.float32))
        assert read(source, gene_key="index_of_mine").match.n_found == 8


# --- scale ---


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_name_cell_and_gene(encoding, value):
    x = log1p_values()
    x[CONTROL_ROWS[4], 6] = value
    for options in ({}, {"allow_unnormalized": True}):
        with pytest.raises(NonFiniteValueError, match=rf"cell 'cell{CONTROL_ROWS[4]}', gene 'G' is {value}"):
            read(cells(ENCODINGS[encoding](x)), **options)


def test_values_that_overflow_float32_are_not_finite():
    x = log1p_values()
    x[0, 1] = 1e300
    with pytest.raises(NonFiniteValueError, match="cell 'cell0', gene 'B' is inf"):
        read(cells(x))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_negative_values_name_cell_and_gene(encoding):
    x = log1p_values()
    x[CONTROL_ROWS[2], 3] = -0.25
    adata = cells(ENCODINGS[encoding](x))
    with pytest.raises(NegativeValueError, match=r"cell 'cell6', gene 'D' is negative \(-0\.25\)") as caught:
        read(adata)
    assert "--layer" in str(caught.value)
    control = read(adata, allow_unnormalized=True)
    assert control.dense(2, 3)[0, 3] == np.float32(-0.25)
    assert any("from -0.25" in notice for notice in control.notices)


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint16"])
def test_raw_counts_say_how_to_normalise(dtype):
    x = np.random.default_rng(0).poisson(2.0, (N_OBS, 8)).astype(dtype)
    x[3, 2] = 40
    adata = cells(x)
    with pytest.raises(RawCountsError, match=r"whole numbers up to 40 \(cell 'cell3', gene 'C'\)") as caught:
        read(adata)
    message = str(caught.value)
    assert "sc.pp.normalize_total(adata); sc.pp.log1p(adata)" in message
    assert "--allow-unnormalized" in message
    control = read(adata, allow_unnormalized=True)
    np.testing.assert_array_equal(control.dense(0, 10), x[CONTROL_ROWS].astype(np.float32))
    assert any("look like raw counts" in notice for notice in control.notices)


def test_normalised_values_without_log1p():
    x = np.expm1(log1p_values()) * 10.5
    x[9, 5] = 1234.5
    with pytest.raises(NotLogTransformedError, match=r"largest value is 1,234\.5 \(cell 'cell9', gene 'F'\)") as caught:
        read(cells(x))
    assert "sc.pp.log1p(adata)" in str(caught.value)
    assert "--allow-unnormalized" in str(caught.value)


def test_what_is_not_a_control_cell_is_not_judged():
    x = log1p_values()
    x[1] = np.nan
    x[2] = -5
    x[4] = 1000
    assert read(cells(x)).n_obs == 10


@pytest.mark.parametrize("maximum", [1, 2])
def test_small_whole_numbers_are_no_error_but_told(maximum):
    x = np.random.default_rng(0).integers(0, maximum + 1, (N_OBS, 8))
    x[:, 0] = maximum
    assert any("All values are whole numbers" in notice for notice in read(cells(x)).notices)


def test_zeros_are_no_error_but_told():
    assert "All values of the control cells are zero." in read(cells(np.zeros((N_OBS, 8)))).notices
    x = log1p_values() + 0.1
    x[[0, 3]] = 0
    assert "2 of 10 control cells express none of the model's genes." in read(cells(x)).notices


def test_ordinary_values_give_no_notice():
    assert read(cells(log1p_values() + 0.1)).notices == []


# --- files that cannot be used ---


def test_missing_input(tmp_path):
    for name in ("none.h5ad", "none.zarr"):
        with pytest.raises(CellsNotFoundError, match=rf"{name}: there is no such file"):
            read(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "content", "fact"),
    [
        ("cells.h5ad", b"gene,cell\n1,2\n", r"not an HDF5 file \(it begins with b'gene,cel'\)"),
        ("cells.h5ad", b"", "it is empty"),
        ("cells.h5ad", b"\x89HDF\r\n\x1a\n" + b"\0" * 40, "damaged or was cut short"),
        ("cells.csv", b"a,b\n", r"unknown file ending '\.csv'. Expected \.h5ad or \.zarr"),
        ("cells.zarr", b"x", "it is a file. Expected a .zarr directory"),
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
    with pytest.raises(CellsFormatError, match="not a zarr group"):
        read(tmp_path / "cells.zarr")


@pytest.mark.parametrize("fraction", [0.3, 0.6, 0.95])
def test_truncated_file(tmp_path, fraction):
    path = tmp_path / "cells.h5ad"
    cells(scipy.sparse.csr_matrix(log1p_values(n_obs=3000))).write_h5ad(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * fraction)])
    with pytest.raises(CellsFormatError, match="damaged or was cut short"):
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


def test_hdf5_that_is_no_anndata(tmp_path):
    with h5py.File(tmp_path / "cells.h5ad", "w") as file:
        file["matrix"] = np.zeros((2, 2))
    with pytest.raises(CellsFormatError, match=r"holds no obs and var \(it holds: matrix\)"):
        read(tmp_path / "cells.h5ad")


def test_annotations_as_compound_datasets(tmp_path):
    path = tmp_path / "cells.h5ad"
    with h5py.File(path, "w") as file:
        for name in ("obs", "var"):
            file[name] = np.array([(b"a",)], dtype=[("index", "S1")])
        file["X"] = np.zeros((1, 1))
    with pytest.raises(CellsFormatError, match=r"obs is stored in the form of anndata before 0\.7.*write_h5ad"):
        read(path)


def test_a_matrix_that_does_not_fit_its_annotations(tmp_path):
    path = tmp_path / "cells.h5ad"
    cells(log1p_values()).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["X"]
        file["X"] = np.zeros((5, 8))
    with pytest.raises(CellsFormatError, match="matrix is 5 x 8, but obs has 30 rows and var 8"):
        read(path)


@pytest.mark.parametrize("shape", [(0, 8), (3, 0)])
def test_no_cells_or_no_genes(tmp_path, shape):
    adata = cells(np.zeros(shape, np.float32), GENES[: shape[1]], conditions=False)
    adata.write_h5ad(tmp_path / "cells.h5ad")
    for source in (adata, tmp_path / "cells.h5ad"):
        with pytest.raises(EmptyCellsError, match=rf"{shape[0]} cells x {shape[1]} genes"):
            read(source)


def test_values_of_another_kind():
    with pytest.raises(CellsFormatError, match=r"dtype bool\. Expected integers or floating point"):
        read(cells(np.ones((3, 8), bool), conditions=False))


def test_a_matrix_of_an_unknown_form(tmp_path):
    path = tmp_path / "cells.h5ad"
    cells(log1p_values()).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["X"]
        file.create_group("X").attrs["encoding-type"] = "coo_matrix"
    with pytest.raises(
        CellsFormatError, match=r"a form that is not known here \(Group\)\. Expected a CSR, CSC or dense"
    ):
        read(path)


def test_annotations_that_cannot_be_read(tmp_path):
    path = tmp_path / "cells.h5ad"
    cells(log1p_values()).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["obs"]["condition"]["codes"]
    with pytest.raises(CellsFormatError, match=r"obs column 'condition' cannot be read .*recent anndata"):
        read(path)


def test_zarr_that_is_not_installed(tmp_path, monkeypatch):
    (tmp_path / "cells.zarr").mkdir()
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ZarrMissingError, match=r"pip install 'scgenept-rt\[zarr\]'"):
        read(tmp_path / "cells.zarr")


def test_every_error_of_an_input_is_a_value_error_that_names_it(tmp_path):
    with pytest.raises(ValueError, match=r"none\.h5ad") as caught:
        read(tmp_path / "none.h5ad")
    assert isinstance(caught.value, CellsError)
    assert caught.value.where == str(tmp_path / "none.h5ad")


# --- arrays ---


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "uint8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_are_converted(dtype, order):
    values = np.asarray(np.arange(24).reshape(3, 8), dtype=dtype, order=order)
    array = from_array(values, PANEL)
    np.testing.assert_array_equal(array, np.arange(24, dtype=np.float32).reshape(3, 8))
    assert array.dtype == np.float32
    assert array.flags.c_contiguous


def test_an_array_that_fits_is_not_copied():
    values = np.ones((2, 8), np.float32)
    assert np.shares_memory(from_array(values, PANEL), values)


def test_sparse_lists_and_no_cells_are_arrays_too():
    x = log1p_values()
    np.testing.assert_array_equal(from_array(scipy.sparse.csr_matrix(x), PANEL), x.astype(np.float32))
    np.testing.assert_array_equal(from_array([[1.0] * 8], PANEL), np.ones((1, 8)))
    assert from_array(np.empty((0, 8)), PANEL).shape == (0, 8)


@pytest.mark.parametrize(
    ("values", "fact"),
    [
        (np.ones((2, 7)), r"of shape \(2, 7\), expected real numbers of shape \(n_cells, 8\)"),
        (np.ones(8), r"of shape \(8,\).*values\[None, :\]"),
        (np.ones((1, 2, 8)), r"of shape \(1, 2, 8\)"),
        (np.ones((2, 8), complex), "of dtype complex128"),
        (np.full((2, 8), "a"), "of dtype <U1"),
    ],
)
def test_arrays_of_another_shape_or_dtype(values, fact):
    with pytest.raises(ValuesShapeError, match=fact):
        from_array(values, PANEL)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_arrays_with_values_that_are_not_finite(value):
    values = np.ones((3, 8))
    values[2, 5] = value
    with pytest.raises(NonFiniteValueError, match=r"cell 'row 2', gene 'F' is (nan|inf)"):
        from_array(values, PANEL)


def test_importing_expression_loads_nothing_that_reads_files():
    code = (
        "import sys, numpy, scgenept_rt.expression as e, scgenept_rt.genes as g\n"
        "p = g.GenePanel(('A',), (None,), numpy.ones(1, bool))\n"
        "assert e.from_array([[2]], p).tolist() == [[2.0]]\n"
        "print([m for m in ('anndata', 'pandas', 'h5py', 'scipy', 'zarr') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
