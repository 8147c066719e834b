from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest

from scgenept_rt.errors import ControlCellsError, ExpressionValueError
from scgenept_rt.expression import OpenedCells, Sampling, matrix_rows, read_control_cells
from tests.runtime.expression.inputs import CONTROL_ROWS, ENCODINGS, N_OBS, PANEL, cells, log1p_values, read


@pytest.mark.parametrize(("mode", "spill_bytes"), [("all", 0), ("random", 2**20), ("upstream", 0), ("upstream", 2**20)])
def test_reading_cells(tmp_path, monkeypatch, spill_bytes, mode):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    x = log1p_values(n_obs=300).astype(np.float32)
    with read(cells(x, conditions=False), sampling=Sampling(mode, seed=3), spill_bytes=spill_bytes) as control:
        assert control.n_available == 300
        rows = np.array([int(name.removeprefix("cell")) for name in control.obs_names])
        np.testing.assert_array_equal(control.values.dense(0, 300), x[rows])
        np.testing.assert_array_equal(control.values.dense(17, 40), x[rows[17:40]])
        assert control.values.dense(5, 5).shape == (0, 8)
        wanted = [299, 0, 0, 7, 8, 9, 3]
        np.testing.assert_array_equal(control.values.gather(wanted), x[rows[wanted]])
        assert control.values.gather([]).shape == (0, 8)
        for begin, end in ((0, 300), (0, 50), (17, 40)):
            part = x[rows[begin:end]].astype(np.float64)
            expected = [(part != 0).sum(axis=0), part.sum(axis=0), np.square(part).sum(axis=0)]
            np.testing.assert_allclose(control.values.totals(begin, end), expected, rtol=1e-12)
        with ThreadPoolExecutor(4) as pool:
            for start, part in enumerate(pool.map(lambda start: control.values.dense(start, start + 9), range(200))):
                np.testing.assert_array_equal(part, x[rows[start : start + 9]])
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="closed"):
        control.values.dense(0, 1)


def test_totals_over_many_steps_does_not_depend_on_where_values_lie(monkeypatch):
    monkeypatch.setattr("scgenept_rt.expression.stored_rows._VALUES_PER_STEP", 10)
    x = log1p_values(n_obs=50)
    held, spilled = (read(cells(x, conditions=False), spill_bytes=size) for size in (2**20, 0))
    np.testing.assert_array_equal(held.values.totals(), spilled.values.totals())
    np.testing.assert_allclose(held.values.totals()[1], x.astype(np.float32).astype(np.float64).sum(axis=0), rtol=1e-14)


def test_an_interrupted_read_leaves_no_temporary_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    x = log1p_values()
    x[CONTROL_ROWS[-1], 0] = np.nan
    monkeypatch.setattr(matrix_rows, "_READ_DENSE_VALUES", 8)
    with pytest.raises(ExpressionValueError):
        read(cells(x), spill_bytes=0)
    assert list(tmp_path.iterdir()) == []


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


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_rows_that_an_option_leaves_out_are_as_if_they_were_not_there(monkeypatch, encoding):
    x, kept = log1p_values(), np.arange(1, N_OBS, 2)
    adata = cells(x)
    adata.obs["donor"] = pd.Categorical(np.arange(N_OBS) % 4)
    x[~np.isin(np.arange(N_OBS), kept[1::3]), 2] = 0  # of counts, only those of control cells that are kept
    adata.layers["counts"] = ENCODINGS[encoding](np.rint(np.expm1(x) * 3))
    x[:, 2] = 0
    adata.X = ENCODINGS[encoding](x)
    options = {"groupby": "donor", "annotated": True}
    expected = read_control_cells(adata[kept].copy(), PANEL, options={"missing_genes": "zero"}, **options)
    assert expected.match.missing == ("C",)
    monkeypatch.setattr(OpenedCells, "kept", kept)
    found = read_control_cells(adata, PANEL, options={"missing_genes": "zero"}, **options)
    assert (found.fingerprint, found.notices) == (expected.fingerprint, expected.notices)
    assert (found.groups.names, found.groups.ranges()) == (expected.groups.names, expected.groups.ranges())


def test_upstream_sampling_draws_what_the_published_code_drew():
    # Recorded from pred_perturb_from_ctrl after np.random.seed(123), 6 control cells, pool_size None and 5.
    assert Sampling("upstream", seed=123).draw(6).tolist() == [5, 2, 4, 2, 1, 3]
    assert Sampling("upstream", n_controls=5, seed=123).draw(6).tolist() == [5, 2, 4, 2, 1]
    assert len(Sampling("upstream", n_controls=10).draw(3)) == 10


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
    with pytest.raises(ControlCellsError, match="11 control cells were asked for, but the input has 10"):
        read(cells(log1p_values()), sampling=Sampling(mode, n_controls=11))
