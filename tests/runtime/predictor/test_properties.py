"""What must not change a result: the order of genes, batches, and the spelling of labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import scgenept_rt as sgr
from scgenept_rt.options import PredictOptions, resolve
from scgenept_rt.predictor.run import Run

MakeCells = Callable[..., anndata.AnnData]

few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LABELS = ["YFU19+ctrl", "YFU19+EKKN10", "ctrl"]


def assert_close(actual: anndata.AnnData, expected: anndata.AnnData) -> None:
    """Equal within the tolerance of fp32, and in every name."""
    assert actual.obs_names.tolist() == expected.obs_names.tolist()
    assert actual.var_names.tolist() == expected.var_names.tolist()
    np.testing.assert_allclose(actual.X, expected.X, rtol=1e-4, atol=2e-5)
    for layer in expected.layers:
        np.testing.assert_allclose(actual.layers[layer], expected.layers[layer], rtol=1e-4, atol=2e-5)


def assert_same(actual: anndata.AnnData, expected: anndata.AnnData) -> None:
    """Equal to the last bit, and in every name."""
    assert actual.obs_names.tolist() == expected.obs_names.tolist()
    np.testing.assert_array_equal(actual.X, expected.X)
    for layer in expected.layers:
        np.testing.assert_array_equal(actual.layers[layer], expected.layers[layer])


@few
@given(order=st.permutations(range(30)), by_id=st.booleans(), n_cells=st.integers(1, 12), batch=st.integers(1, 9))
def test_order_of_genes_and_genes_of_no_use_change_no_bit(
    model: sgr.Predictor, make_cells: MakeCells, order: list[int], by_id: bool, n_cells: int, batch: int
) -> None:
    cells = make_cells(n_cells)
    names = list(model.panel.ids) if by_id else model.gene_names
    wider = anndata.AnnData(
        np.hstack([cells.X, np.full((n_cells, 6), 1.5, np.float32)]),
        obs=cells.obs,
        var=pd.DataFrame(index=[*names, *(f"OTHER{number}" for number in range(6))]),
    )
    expected = model.predict(cells, LABELS, aggregate="both", batch_size=batch)
    actual = model.predict(wider[:, order].copy(), LABELS, aggregate="both", batch_size=batch)
    assert_same(actual.mean, expected.mean)
    assert_same(actual.cells, expected.cells)


@few
@given(batch=st.one_of(st.just("auto"), st.integers(1, 60)), n_cells=st.integers(1, 20))
def test_batch_size_changes_nothing_beyond_fp32(
    model: sgr.Predictor, make_cells: MakeCells, batch: int, n_cells: int
) -> None:
    cells = make_cells(n_cells)
    expected = model.predict(cells, LABELS, aggregate="both", batch_size=1)
    actual = model.predict(cells, LABELS, aggregate="both", batch_size=batch)
    assert_close(actual.mean, expected.mean)
    assert_close(actual.cells, expected.cells)


@pytest.mark.parametrize("options", [{"aggregate": "both"}, {"max_error": 0.2}])
@pytest.mark.parametrize("groupby", [None, "cell_type"])
def test_a_run_that_begins_later_gives_the_same_rows(
    model: sgr.Predictor, make_cells: MakeCells, options: dict[str, Any], groupby: str | None
) -> None:
    cells, labels = make_cells(60), model.gene_names
    cells.obs["cell_type"] = ["T", "B", "T"] * 20
    resolved = resolve(PredictOptions, {"groupby": groupby, "batch_size": 5, **options})

    def rows(index: int) -> list[tuple[Any, ...]]:
        run = Run.prepare(model, cells, labels, resolved, read=None, on_notice=None)
        return [
            (each.aggregate, each.perturbation.label, each.group, each.X.tolist(), str(each.layers))
            for each in run.rows(first_row=int(run.schedule.starts[index]))
        ]

    whole = rows(0)
    for index in (1, 17, 30 if groupby else 23):
        later = rows(index)
        assert later[0][1] == labels[index % 24]
        assert later == whole[-len(later) :]


@pytest.mark.parametrize("ending", [".h5ad", ".zarr"])
def test_files_hold_what_predict_returns(
    model: sgr.Predictor, make_cells: MakeCells, tmp_path: Path, ending: str
) -> None:
    if ending == ".zarr":
        pytest.importorskip("zarr", reason="the extra zarr is not installed")
    cells = make_cells(9)
    cells.obs["cell_type"] = list("ABABBABAB")
    options = {"aggregate": "both", "groupby": "cell_type", "batch_size": 4}
    paths = model.predict_file(cells, tmp_path / f"out{ending}", LABELS, **options)
    for path, expected in zip(paths, model.predict(cells, LABELS, **options), strict=True):
        written = anndata.read_h5ad(path) if ending == ".h5ad" else anndata.io.read_zarr(path)
        assert_same(written, expected)
        for column in ("condition", "cell_type"):
            assert written.obs[column].tolist() == expected.obs[column].tolist()
        assert written.uns["scgenept_rt"]["groupby"] == "cell_type"


@pytest.mark.parametrize(
    "spellings",
    [
        ["YFU19+ctrl", "ctrl+YFU19", "YFU19", " YFU19 ", "control+YFU19", "ENSG00000000007", "ENSG00000000007.12+ctrl"],
        ["YFU19+EKKN10", "EKKN10 + YFU19", "YFU19_EKKN10", "YFU19+EKKN10+ctrl", "ENSG00000000005_YFU19"],
        ["ctrl", "control", "non-targeting", "ctrl+ctrl"],
    ],
)
def test_spelling_of_a_label_changes_no_bit(model: sgr.Predictor, make_cells: MakeCells, spellings: list[str]) -> None:
    cells = make_cells(4)
    expected = model.predict(cells, spellings[0])
    rows = model.predict_array(cells.X, spellings[0])
    for spelling in spellings:
        predicted = model.predict(cells, spelling)
        np.testing.assert_array_equal(predicted.X, expected.X)
        np.testing.assert_array_equal(model.predict_array(cells.X, spelling), rows)
        assert predicted.obs["condition"].tolist() == [spelling.strip()]
        assert predicted.obs["target_genes"].tolist() == expected.obs["target_genes"].tolist()
    told: list[str] = []
    assert model.predict(cells, spellings, on_notice=told.append).n_obs == 1
    assert [notice for notice in told if "predicted once" in notice]
