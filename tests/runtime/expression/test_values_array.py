from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse

from scgenept_rt.errors import ArgumentError, ExpressionValueError
from scgenept_rt.expression.values_array import from_array
from tests.runtime.expression.inputs import PANEL, log1p_values


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
        (np.full((2, 8), "2020", "datetime64[D]"), r"of dtype datetime64\[D\]"),
        (np.ones((2, 8), object), "of dtype object"),
        ([[1.0] * 8, [1.0] * 7], r"are no array \(.*inhomogeneous.*\), expected real numbers"),
        (None, "are None, expected real numbers"),
        ({"A": 1.0}, "are an object of type dict"),
        (anndata.AnnData(np.ones((2, 8), np.float32)), r"of type AnnData, expected.*`Predictor\.predict` takes"),
        (pd.DataFrame(np.ones((2, 8))), r"of type DataFrame, expected.*frame\[model\.gene_names\]\.to_numpy\(\)"),
    ],
)
def test_values_of_another_shape_or_kind(values, fact):
    with pytest.raises(ArgumentError, match=fact):
        from_array(values, PANEL)


def test_masked_values_are_refused_and_not_read_through_the_mask():
    values = np.ma.array(np.ones((3, 8)), mask=False)
    np.testing.assert_array_equal(from_array(values, PANEL), np.ones((3, 8)))
    values[1, 4] = np.ma.masked
    for masked in (values, list(values)):
        with pytest.raises(ArgumentError, match=r"masked, expected.*values\.filled\(0\)"):
            from_array(masked, PANEL)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_arrays_with_values_that_are_not_finite(value):
    values = np.ones((3, 8))
    values[2, 5] = value
    with pytest.raises(ExpressionValueError, match=r"row 2, gene 'F' is (nan|inf)"):
        from_array(values, PANEL)
