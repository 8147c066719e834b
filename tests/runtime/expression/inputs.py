"""What the tests of reading share: a model of eight genes, and cells of which every third is a control."""

from __future__ import annotations

import contextlib
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from scgenept_rt.expression import read_control_cells
from scgenept_rt.genes import GenePanel
from scgenept_rt.options import ReadOptions

GENES = tuple("ABCDEFGH")
IDS = tuple(f"ENSG{number:011d}" for number in range(1, 9))
PANEL = GenePanel(GENES, IDS, np.array([True] * 6 + [False] * 2))
N_OBS = 30
CONTROL_ROWS = np.arange(0, N_OBS, 3)
ENCODINGS = {"csr": scipy.sparse.csr_matrix, "csc": scipy.sparse.csc_matrix, "dense": np.asarray}


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


def assert_controls(control, x, rows=CONTROL_ROWS):
    """Check that control cells have the values of these rows, by default of every third."""
    np.testing.assert_array_equal(control.values.dense(0, control.n_obs), x[rows].astype(np.float32))


def proposed(caught):
    """Return the options that an error proposes, by name."""
    return {option.name: option.value for option in caught.value.options}


def read(source, panel=PANEL, sampling=None, spill_bytes=2**20, **options):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scgenept_rt.expression.stored_rows.SPILL_BYTES", spill_bytes)
        return read_control_cells(source, panel, options=ReadOptions(**options), sampling=sampling)
