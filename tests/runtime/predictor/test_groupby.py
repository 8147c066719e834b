"""`groupby`: means per perturbation and group of control cells, each from its own group's cells."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

import scgenept_rt as sgr
from scgenept_rt.compatibility import check_cells
from scgenept_rt.errors import ArgumentError, ControlCellsError, FieldNotFoundError

MakeCells = Callable[..., anndata.AnnData]
LABELS = ["YFU19", "EKKN10", "YFU19+EKKN10", "ctrl"]
TYPES = ["T cell", "B cell", "NK"]


@pytest.fixture
def cells(make_cells: MakeCells) -> anndata.AnnData:
    """60 cells of three types, mixed, and a category without cells."""
    adata = make_cells(60)
    of = np.random.default_rng(0).choice(TYPES, 60, p=[0.5, 0.3, 0.2])
    adata.obs["cell_type"] = pd.Categorical(of, categories=[*TYPES[:1], "Mono", *TYPES[1:]])
    return adata


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"aggregate": "cells"},
        {"sampling": "upstream", "n_controls": 30},
        {"max_error": 0.3, "n_controls_per_perturbation": 9, "n_controls": 10},
    ],
)
def test_each_group_is_predicted_as_if_it_were_alone(
    model: sgr.Predictor, cells: anndata.AnnData, options: dict[str, Any]
) -> None:
    options = {"batch_size": 7, **options}
    found = model.predict(cells, LABELS, groupby="cell_type", **options)
    assert list(found.obs["cell_type"].cat.categories) == TYPES
    assert found.uns["scgenept_rt"]["groupby"] == "cell_type"
    alone = [model.predict(cells[cells.obs["cell_type"] == name].copy(), LABELS, **options) for name in TYPES]
    assert [*found.obs["cell_type"]] == [
        name for name, adata in zip(TYPES, alone, strict=True) for _ in adata.obs_names
    ]
    expected = anndata.concat(alone, index_unique="|", keys=TYPES)
    pd.testing.assert_frame_equal(
        found.obs.drop(columns="cell_type").reset_index(drop=True).astype(object),
        expected.obs[[*found.obs.columns.drop("cell_type")]].reset_index(drop=True).astype(object),
    )
    np.testing.assert_allclose(found.X, expected.X, rtol=1e-4, atol=2e-5)
    for layer in expected.layers:
        if layer is not None:  # anndata 0.13: None is X
            np.testing.assert_allclose(found.layers[layer], expected.layers[layer], rtol=1e-3, atol=5e-5)


def test_the_cell_eval_format_names_the_group_of_every_cell(
    model: sgr.Predictor, cells: anndata.AnnData, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"groupby": "cell_type", "aggregate": "cells", "for_cell_eval": True}
    model.predict_file(cells, tmp_path / "out.h5ad", LABELS[:2], **options)
    found = anndata.read_h5ad(tmp_path / "out.h5ad").obs
    assert found["condition"].value_counts().to_dict() == {"ctrl": 60, "YFU19": 60, "EKKN10": 60}
    assert [*found["cell_type"]] == [*cells.obs["cell_type"].loc[found["control_cell"]]]
    with pytest.raises(ArgumentError) as raised:
        model.predict_file(cells, tmp_path / "b.h5ad", LABELS[:2], cell_eval_column="cell_type", **options)
    assert [option.name for option in raised.value.options] == ["cell_eval_column"]


def test_rows_name_their_group(model: sgr.Predictor, cells: anndata.AnnData) -> None:
    rows = [*model.iter_predict(cells, LABELS, groupby="cell_type")]
    assert [row.group for row in rows] == [name for name in TYPES for _ in LABELS]
    assert {row.group for row in model.iter_predict(cells, LABELS)} == {""}


# --- the column -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([10, 9, 10, 9], ["9", "10"]),
        ([2.0, np.nan, 2.0, 1.0], ["1", "2"]),
        ([True, False, True, True], ["False", "True"]),
        (["x", None, "y ", "y"], ["x", "y"]),
        (pd.Categorical(["low", "high", "low", "high"], ["low", "mid", "high"], ordered=True), ["low", "high"]),
    ],
)
def test_groups_are_the_values_of_the_column(
    model: sgr.Predictor, make_cells: MakeCells, values: Any, names: list[str]
) -> None:
    adata = make_cells(4)
    adata.obs["group"] = values
    notices: list[str] = []
    found = model.predict(adata, "YFU19", groupby="group", on_notice=notices.append)
    assert [*found.obs["group"]] == names
    n_missing = int(pd.isna(adata.obs["group"]).sum())
    assert found.obs["n_controls"].sum() == 4 - n_missing
    assert any("1 of 4 control cells" in notice for notice in notices) == bool(n_missing)


def test_a_group_of_one_cell_has_no_standard_errors_and_few_cells_are_all_used(
    model: sgr.Predictor, make_cells: MakeCells
) -> None:
    adata = make_cells(9)
    adata.obs["donor"] = ["A"] * 6 + ["B"] * 2 + ["C"]
    notices: list[str] = []
    found = model.predict(adata, "YFU19", groupby="donor", n_controls=5, on_notice=notices.append)
    assert found.obs["n_controls"].tolist() == [5, 2, 1]
    assert np.isnan(found.layers["sem"]).all(axis=1).tolist() == [False, False, True]
    assert np.isfinite(found.layers["delta"]).all()
    assert any("B (2), C (1)" in notice for notice in notices)
    assert any("NaN" in notice and notice.endswith(": C.") for notice in notices)
    # the same with an estimate from few cells
    every = model.predict(adata, "YFU19", groupby="donor", max_error=0.1)
    assert every.obs["n_controls"].tolist() == [6, 2, 1]


@pytest.mark.parametrize(
    ("column", "error", "suggested"),
    [
        ("celltype", FieldNotFoundError, "cell_type"),
        ("size", ControlCellsError, None),
        ("barcode", ControlCellsError, None),
        ("condition", ArgumentError, None),
        ("a/b", ArgumentError, None),
    ],
)
def test_columns_that_are_no_groups_are_refused(
    model: sgr.Predictor, make_cells: MakeCells, column: str, error: type[Exception], suggested: str | None
) -> None:
    adata = make_cells(80)
    adata.obs["cell_type"] = ["T", "B"] * 40
    adata.obs["size"] = np.arange(80) + 0.5
    adata.obs["barcode"] = adata.obs_names
    adata.obs["a/b"] = ["T", "B"] * 40
    with pytest.raises(error, match=column) as raised:
        model.predict(adata, "YFU19", groupby=column)
    assert [option.value for option in raised.value.options] == ([suggested] if suggested else [])  # type: ignore[attr-defined]


# --- without it -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({}, None),
        ({"cell_type": "A549", "batch": 1, "leiden": ["0", "1"] * 10}, None),
        ({"donor_id": [f"D{number}" for number in range(2)] * 10, "batch": [1, 2] * 10}, "donor_id"),
        ({"Cell.Type": ["T", None] * 10}, None),
        ({"celltype": ["T", "B"] * 10}, "celltype"),
    ],
)
def test_mixed_control_cells_get_one_line(
    model: sgr.Predictor, make_cells: MakeCells, columns: dict[str, Any], named: str | None
) -> None:
    adata = make_cells(20)
    for name, values in columns.items():
        adata.obs[name] = values
    notices: list[Any] = []
    model.predict(adata, "YFU19", on_notice=notices.append)
    mixed = [
        option.value for notice in notices for option in getattr(notice, "options", ()) if option.name == "groupby"
    ]
    assert mixed == ([named] if named else [])
    checked = [finding.text for finding in check_cells(model.bundle, adata).findings if "differ in" in finding.text]
    assert len(checked) == len(mixed)
    model.predict(adata, "YFU19", aggregate="cells", on_notice=notices.append)
    assert sum("differ in" in notice for notice in notices) == len(mixed)
