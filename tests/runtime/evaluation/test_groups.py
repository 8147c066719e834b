"""Predictions by groups of control cells: read by group, and compared with the measured cells of the same group."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from scgenept_rt.errors import (
    ControlCellsError,
    FieldNotFoundError,
    LabelNotFoundError,
    PlotError,
    PredictionFileError,
)
from scgenept_rt.evaluation import PredictedMeans, evaluate, read_groups, read_predictions
from scgenept_rt.evaluation.result import ALL_TESTED
from scgenept_rt.plotting import agreement, delta, heatmap, top_de
from scgenept_rt.ranking import rank
from tests.runtime.evaluation.conftest import GENES

LABELS = ["G0+ctrl", "G3+ctrl", "G1+G2"]


@pytest.fixture(scope="module")
def data(adata: anndata.AnnData) -> anndata.AnnData:
    """Measured cells of two donors in turn, without lists of genes in uns."""
    made = adata.copy()
    made.uns = {}
    made.obs["donor"] = np.resize([1, 2], made.n_obs)
    return made


@pytest.fixture(scope="module")
def grouped(data: anndata.AnnData) -> anndata.AnnData:
    """What `predict --groupby donor` returns, with made-up changes."""
    rng = np.random.default_rng(0)
    deltas = rng.normal(0, 0.3, (6, len(GENES))).astype(np.float32)
    values, donors = data.X.toarray(), data.obs["donor"].to_numpy()
    control = [
        values[(donors == donor) & (data.obs["condition"] == "ctrl").to_numpy()].mean(axis=0) for donor in (1, 2)
    ]
    obs = pd.DataFrame({"condition": LABELS * 2, "donor": pd.Categorical(np.repeat(["1", "2"], 3)), "n_controls": 40})
    obs.index = [f"{label}|{donor}" for label, donor in zip(obs["condition"], obs["donor"], strict=True)]
    return anndata.AnnData(
        deltas + np.repeat(control, 3, axis=0),
        obs=obs,
        var=pd.DataFrame(index=list(GENES)),
        layers={"delta": deltas, "delta_sem": np.full_like(deltas, 0.05)},
        uns={"scgenept_rt": {"groupby": "donor", "variant": "model"}},
    )


def test_a_group_is_evaluated_as_if_there_were_no_other_cells(data, grouped, split) -> None:
    rows = (data.obs["donor"] == 2).to_numpy()
    alone = grouped[grouped.obs["donor"] == "2"].copy()
    del alone.uns["scgenept_rt"]["groupby"]
    found = evaluate(read_predictions(grouped, in_group="2"), data, split)
    expected = evaluate(read_predictions(alone), data[rows].copy(), split)
    pd.testing.assert_frame_equal(found.perturbations, expected.perturbations)
    assert found.findings == expected.findings
    assert "donor = 2" in found.protocol


def test_all_groups_are_averaged_and_shown_one_by_one(data, grouped, split) -> None:
    alone = [evaluate(read_predictions(grouped, in_group=name), data, split) for name in ("1", "2")]
    result = evaluate(read_groups(grouped), data, split)
    metrics = [column for column in alone[0].perturbations if column not in result.perturbations.columns[:6]]
    expected = pd.concat([entry.perturbations for entry in alone], ignore_index=True)
    pd.testing.assert_frame_equal(result.perturbations[metrics], expected[metrics])
    assert result.tested == tuple(f"{label}|{name}" for name in ("1", "2") for label in alone[0].tested)
    assert result.subgroups[-3:] == ["donor = 1", "donor = 2", ALL_TESTED]
    shown = result.summary.set_index(["subgroup", "method"])
    for name, entry in zip(("1", "2"), alone, strict=True):
        own = entry.summary.set_index(["subgroup", "method"]).loc[(ALL_TESTED, entry.model)]
        assert shown.loc[(f"donor = {name}", result.model), "mse"] == pytest.approx(own["mse"])
    # cells of one group alone were measured
    half = data[(data.obs["donor"] == 1).to_numpy()].copy()
    result = evaluate(read_groups(grouped), half, split)
    assert {*result.perturbations["group"]} == {"donor = 1"}
    assert any("donor = 2" in notice for notice in result.notices)


def test_the_group_has_to_be_named(grouped, data) -> None:
    for read in (read_predictions, rank, heatmap, lambda source: delta(source, "G0+ctrl")):
        with pytest.raises(PredictionFileError) as raised:
            read(grouped)
        assert [(option.name, option.value) for option in raised.value.options] == [("in_group", "1")]
    with pytest.raises(LabelNotFoundError, match="there are: 1, 2"):
        read_predictions(grouped, in_group="3")
    one = grouped[:3].copy()
    assert read_predictions(one).group == ("donor", "1")
    del one.uns["scgenept_rt"]["groupby"]
    with pytest.raises(LabelNotFoundError, match=r"there are: none.*Leave the group out"):
        read_predictions(one, in_group="1")


def test_cells_are_averaged_within_the_group(grouped) -> None:
    cells = grouped[[0, 1, 3, 4]].copy()
    cells.obs = cells.obs.drop(columns="n_controls").assign(condition="G0+ctrl", control_cell=list("abcd"))
    means = read_predictions(cells, in_group="2")
    np.testing.assert_allclose(means.means[0], cells.X[2:].mean(axis=0), rtol=1e-5)
    assert means.n_controls.tolist() == [2]


def test_measured_cells_without_the_group_are_refused(data, grouped, split) -> None:
    means = read_predictions(grouped, in_group="1")
    without = data.copy()
    del without.obs["donor"]
    with pytest.raises(FieldNotFoundError, match="donor"):
        evaluate(means, without, split)
    for donors in (data.obs["donor"] * 2, np.where(data.obs["condition"] == "ctrl", 2, data.obs["donor"])):
        other = data.copy()
        other.obs["donor"] = np.asarray(donors)
        with pytest.raises((LabelNotFoundError, ControlCellsError), match="donor = 1"):
            evaluate(means, other, split)


def test_figures_and_ranks_are_of_the_group(data, grouped, predict: Callable[..., PredictedMeans]) -> None:
    own = grouped.layers["delta"][3:]
    bars = delta(grouped, "G0+ctrl", in_group="2", n_genes=5).containers[-1]
    np.testing.assert_allclose(sorted(abs(bar.get_width()) for bar in bars), np.sort(np.abs(own[0]))[-5:])
    assert heatmap(grouped, in_group="2", cluster=False, n_genes=60).images[0].get_array().shape == (3, 60)
    table = rank(grouped, in_group="2").table
    assert table["perturbation"][0] == LABELS[int(np.argmax(np.linalg.norm(own, axis=1)))]

    chosen = (data.obs["donor"] == 2).to_numpy()
    values, conditions = data.X.toarray()[chosen], data.obs["condition"].to_numpy()[chosen]
    change = values[conditions == "G1+G2"].mean(axis=0) - values[conditions == "ctrl"].mean(axis=0)
    line = agreement(data, "G1+G2", grouped, in_group="2").lines[0]
    np.testing.assert_allclose(line.get_xdata(), change, atol=1e-5)
    np.testing.assert_allclose(line.get_ydata(), own[2], atol=1e-6)
    others = predict({"G1+G2": np.zeros(60)})
    with pytest.raises(PlotError, match="all control cells"):
        top_de(data, "G1+G2", [read_predictions(grouped, in_group="2"), others])


def test_several_rows_of_a_perturbation_are_refused(grouped) -> None:
    """The first must not pass for all where nothing says which is which."""
    merged = grouped.copy()
    del merged.uns["scgenept_rt"]["groupby"]
    for read in (read_predictions, heatmap):
        with pytest.raises(PredictionFileError, match=r"G0\+ctrl"):
            read(merged)


def test_a_table_holds_all_groups(run, grouped, tmp_path: Path) -> None:
    means, out = tmp_path / "means.h5ad", tmp_path / "table.csv"
    grouped.write_h5ad(means)
    assert run("table", means, "--out", out)[0] == 0
    table = pd.read_csv(out)
    assert [*table[:0]][:3] == ["perturbation", "group", "gene"]
    assert (table["perturbation"] + "|" + table["group"].astype(str)).drop_duplicates().tolist() == [*grouped.obs_names]
    np.testing.assert_allclose(table["delta"], grouped.layers["delta"].ravel(), rtol=1e-5)
    assert run("table", means, "--out", out, "--in-group", "2")[0] == 0
    np.testing.assert_allclose(pd.read_csv(out)["delta"], grouped.layers["delta"][3:].ravel(), rtol=1e-5)


def test_the_commands_take_a_group(run, grouped, data, split_file, tmp_path: Path) -> None:
    means, cells = tmp_path / "means.h5ad", tmp_path / "cells.h5ad"
    grouped.write_h5ad(means)
    data.write_h5ad(cells)
    evaluation = ("evaluate", cells, "--split", split_file, "--predictions", means)
    code, out, error = run(*evaluation, "--html", tmp_path / "all.html", "--csv", tmp_path / "all.csv")
    assert code == 0, error
    assert "donor = 1" in out
    assert "G0+ctrl|2" in (tmp_path / "all.html").read_text()
    code, out, error = run(*evaluation, "--in-group", "2")
    assert code == 0, error
    assert "donor = 2" in out
    for command in (("plot", "heatmap", means), ("plot", "top-de", cells, "-p", "G1+G2", "--predictions", means)):
        code, _, error = run(*command, "--in-group", "2", "--out", tmp_path / "figure.svg")
        assert code == 0, error
    assert "--in-group 1" in run("rank", means)[2]
    assert run("rank", means, "--in-group", "2")[0] == 0
