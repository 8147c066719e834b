from __future__ import annotations

import re

import h5py
import numpy as np
import pandas as pd
import pytest

from scgenept_rt.errors import CellsFormatError, ControlCellsError, FieldNotFoundError
from scgenept_rt.expression import read_control_cells
from tests.runtime.expression.inputs import PANEL, as_form, cells, log1p_values, proposed, read


@pytest.mark.parametrize(
    ("key", "label", "form"),
    [
        ("condition", "ctrl", "h5ad"),
        ("perturbation", "control", "memory"),
        ("target_gene", "non-targeting", "h5ad"),
        ("gene", "control", "h5ad"),
    ],
)
def test_columns_and_labels_of_the_field(tmp_path, key, label, form):
    conditions = pd.Categorical(["A", label, None, label, "B"])
    with as_form(cells(log1p_values(n_obs=5), conditions=conditions, key=key), form, tmp_path) as source:
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
    with pytest.raises(ControlCellsError) as caught:
        read(adata)
    message = str(caught.value)
    assert "obs column 'condition'" in message
    assert "'ctrl' (2 cells) and 'control' (1 cell)" in message
    assert [option.value for option in caught.value.options] == ["ctrl", ["ctrl", "control"]]
    assert read(adata, control_label=["ctrl", "control"]).n_obs == 3


def test_no_column_takes_all_rows_and_says_so():
    control = read(cells(log1p_values(n_obs=4), conditions=False))
    assert (control.n_obs, control.condition_key, control.control_label) == (4, None, None)
    assert any("all cells (4) are taken as control cells" in notice for notice in control.notices)


def test_no_control_cells_names_column_and_frequent_labels():
    adata = cells(log1p_values(n_obs=6), conditions=["A", "B", "B", "unperturbed", "unperturbed", "unperturbed"])
    with pytest.raises(ControlCellsError) as caught:
        read(adata)
    message = str(caught.value)
    assert "'condition' has no control cells, expected 'ctrl' or 'control' or 'non-targeting'" in message
    assert "'unperturbed' (3 cells), 'B' (2 cells), 'A' (1 cell)" in message
    assert proposed(caught) == {"control_label": "unperturbed"}
    with pytest.raises(ControlCellsError, match="expected 'NT'"):
        read(adata, control_label="NT")
    for none in (np.nan, "", None):
        partly = cells(log1p_values(n_obs=6), conditions=["A", "B", none, none, "B", none])
        with pytest.raises(ControlCellsError, match=r"; 3 cells have no label\. ") as caught:
            read(partly)
        with pytest.raises(ControlCellsError, match=r"3 cells have no label\. Pass control_label"):
            read(partly, control_label="NT")
        exec(re.search("`(.*)`", caught.value.remedy)[1], {"adata": partly})
        assert read(partly).n_obs == 3
    with pytest.raises(ControlCellsError, match=r"expected 'ctrl'.*; it has no labels at all"):
        read(cells(log1p_values(n_obs=3), conditions=[np.nan] * 3))


def with_column(name, values):
    adata = cells(log1p_values(n_obs=len(values)), conditions=False)
    adata.obs[name] = values
    return adata


@pytest.mark.parametrize("kind", ["object", "category", "string"])
def test_perturbed_cells_are_not_controls_because_their_column_has_another_name(kind):
    adata = with_column("guide", pd.Series(["non-targeting", "KLF1"] * 3, dtype=kind).array)
    adata.obs["batch"] = ["control lane"] * 6
    with pytest.raises(ControlCellsError, match=r"'guide' holds 'non-targeting' \(3 cells\)\.") as caught:
        read(adata)
    assert proposed(caught) == {"condition_key": "guide"}
    assert list(read(adata, condition_key="guide").obs_names) == ["cell0", "cell2", "cell4"]


@pytest.mark.parametrize("column", ["condition", "control", "donor"])
def test_a_column_of_lists_is_refused_in_words_if_it_is_asked_for(column):
    adata = with_column("cell_type" if column == "control" else "condition", ["ctrl", "A", "ctrl"])
    adata.obs[column] = [["A", "ctrl"]] * 3
    with pytest.raises(CellsFormatError, match=rf"obs column '{column}' holds lists or the like"):
        read_control_cells(adata, PANEL, groupby="donor")
    if column == "donor":
        assert read(adata).n_obs == 2


def test_every_column_that_tells_control_cells_is_named():
    adata = with_column("guide", ["control", "KLF1", None])
    adata.obs["arm"] = ["ctrl", "control", "x"]
    with pytest.raises(
        ControlCellsError,
        match=r"'guide' holds 'control' \(1 cell\), 'arm' holds 'ctrl' \(1 cell\), 'control' \(1 cell",
    ) as caught:
        read(adata)
    assert proposed(caught) == {"condition_key": None}


@pytest.mark.parametrize(
    "values",
    [
        ["control"] * 4,
        ["ctrl", "control", "ctrl", "ctrl"],
        ["a control of day 2", "control lane", "CONTROLLED", "untargeted"],
        pd.Categorical(["a"] * 4, categories=["ctrl", "a"]),
        [0, 1, 0, 1],
        [True, False] * 2,
        [["ctrl"], ["a"], {}, None],
    ],
    ids=["all cells", "all cells, two words", "other text", "unused category", "numbers", "truth values", "lists"],
)
def test_columns_that_tell_no_cells_apart_leave_all_cells_controls(values):
    assert read(with_column("note", values)).n_obs == 4


@pytest.mark.parametrize("labelled", [True, False])
def test_a_damaged_column_stops_nothing_unless_it_may_label_the_cells(tmp_path, labelled):
    adata = with_column("note", ["a", "b"])
    if labelled:
        adata.obs["condition"] = ["ctrl", "A+ctrl"]
    adata.write_h5ad(tmp_path / "cells.h5ad")
    with h5py.File(tmp_path / "cells.h5ad", "a") as file:
        del file["obs/note"]
    if labelled:
        assert read(tmp_path / "cells.h5ad").n_obs == 1
        return
    with pytest.raises(CellsFormatError, match="'note' cannot be read"):
        read(tmp_path / "cells.h5ad")


def test_other_columns_that_hold_the_control_label_are_named():
    with pytest.raises(FieldNotFoundError, match=r"'DMSO' \(it is in arm\)") as caught:
        read(with_column("arm", ["DMSO", "x"]), control_label="DMSO")
    assert proposed(caught) == {"condition_key": "arm"}
    with pytest.raises(FieldNotFoundError, match=r"'DMSO' \(obs has: arm\)") as caught:
        read(with_column("arm", ["water", "x"]), control_label="DMSO")
    assert proposed(caught) == {"condition_key": None}
    adata = with_column("condition", ["day0", "day1"])
    adata.obs["guide"] = ["ctrl", "KLF1"]
    with pytest.raises(ControlCellsError, match="such a label is in guide") as caught:
        read(adata)
    assert proposed(caught) == {"control_label": None, "condition_key": "guide"}
