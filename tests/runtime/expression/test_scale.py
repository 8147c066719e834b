from __future__ import annotations

import numpy as np
import pytest

from scgenept_rt.errors import ExpressionValueError
from tests.runtime.expression.inputs import (
    CONTROL_ROWS,
    ENCODINGS,
    N_OBS,
    cells,
    log1p_values,
    proposed,
    read,
)


@pytest.mark.parametrize(("value", "encoding"), list(zip([np.nan, np.inf, -np.inf], ENCODINGS, strict=True)))
def test_values_that_are_not_finite_name_cell_and_gene(encoding, value):
    x = log1p_values()
    x[CONTROL_ROWS[4], 6] = value
    for options in ({}, {"allow_unnormalized": True}):
        with pytest.raises(ExpressionValueError, match=rf"cell 'cell{CONTROL_ROWS[4]}', gene 'G' is {value}"):
            read(cells(ENCODINGS[encoding](x)), **options)


def test_values_that_overflow_float32_are_not_finite():
    x = log1p_values()
    x[0, 1] = 1e300
    with pytest.raises(ExpressionValueError, match="cell 'cell0', gene 'B' is inf"):
        read(cells(x))


def test_negative_values_name_cell_and_gene():
    x = log1p_values()
    x[CONTROL_ROWS[2], 3] = -0.25
    adata = cells(x)
    with pytest.raises(ExpressionValueError, match=r"cell 'cell6', gene 'D' is negative \(-0\.25\)") as caught:
        read(adata)
    assert proposed(caught) == {"allow_unnormalized": True}
    assert caught.value.remedy
    adata.layers["lognorm"] = adata.X
    adata.raw = adata
    with pytest.raises(ExpressionValueError) as caught:
        read(adata)
    assert proposed(caught) == {"layer": "lognorm", "use_raw": True, "allow_unnormalized": True}
    control = read(adata, allow_unnormalized=True)
    assert control.values.dense(2, 3)[0, 3] == np.float32(-0.25)
    assert any("from -0.25" in notice for notice in control.notices)


def test_raw_counts_name_the_largest_and_are_told_of_if_they_are_accepted():
    x = np.random.default_rng(0).poisson(0.6, (N_OBS, 8))
    x[3, 2] = 9
    with pytest.raises(ExpressionValueError, match=r"whole numbers up to 9 \(cell 'cell3', gene 'C'\): these are raw"):
        read(cells(x))
    assert any("look like raw counts" in notice for notice in read(cells(x), allow_unnormalized=True).notices)


def test_normalised_values_without_log1p():
    x = np.expm1(log1p_values()) * 10.5
    x[9, 5] = 1234.5
    with pytest.raises(ExpressionValueError, match=r"largest value is 1,234\.5 \(cell 'cell9', gene 'F'\)") as caught:
        read(cells(x))
    assert "sc.pp.log1p(adata)" in str(caught.value)


def test_what_is_not_a_control_cell_is_not_judged():
    x = log1p_values()
    x[1] = np.nan
    x[2] = -5
    x[4] = 1000
    assert read(cells(x)).n_obs == 10


def test_small_whole_numbers_are_no_error_but_told():
    x = np.random.default_rng(0).integers(0, 3, (N_OBS, 8))
    x[:, 0] = 2
    assert any("All values are whole numbers" in notice for notice in read(cells(x)).notices)


def test_zeros_are_no_error_but_told():
    assert "All values of the cells are zero." in read(cells(np.zeros((N_OBS, 8)))).notices
    x = log1p_values() + 0.1
    x[[0, 3]] = 0
    assert "2 of 10 cells express none of the model's genes." in read(cells(x)).notices
    x[3] = 1.5
    assert "1 of 10 cells expresses none of the model's genes." in read(cells(x)).notices
