from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scgenept_rt.errors import AmbiguousControlLabelError, NoControlCellsError
from tests.runtime.expression.inputs import as_form, cells, log1p_values, read


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
    assert "'ctrl' (2 cells) and 'control' (1 cell)" in message
    assert "--control-label ctrl" in message


def test_no_column_takes_all_rows_and_says_so():
    control = read(cells(log1p_values(n_obs=4), conditions=False))
    assert (control.n_obs, control.condition_key, control.control_label) == (4, None, None)
    assert any("all 4 cells are taken as control cells" in notice for notice in control.notices)
    notices = read(cells(log1p_values(n_obs=1), conditions=False)).notices
    assert any("its only cell is taken as a control cell" in notice for notice in notices)


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


@pytest.mark.parametrize("form", ["h5ad", "memory"])
def test_a_column_without_any_label_is_said_to_have_none(tmp_path, form):
    adata = cells(log1p_values(n_obs=3), conditions=[np.nan] * 3)
    with (
        as_form(adata, form, tmp_path) as source,
        pytest.raises(NoControlCellsError, match=r"expected 'ctrl'.*; it has no labels at all\. Fill it in"),
    ):
        read(source)
    with pytest.raises(NoControlCellsError, match=r"its most frequent label is 'A' \(1\)\. Name the control"):
        read(cells(log1p_values(n_obs=1), conditions=["A"]))
