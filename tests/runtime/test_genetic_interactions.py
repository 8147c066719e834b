from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist, squareform

import scgenept_rt as sgr
from scgenept_rt.demo import demo_control_cells
from scgenept_rt.errors import ArgumentError, PerturbationError
from scgenept_rt.genetic_interactions import (
    distance_correlation,
    interaction_scores,
    predicted_interactions,
    spatial_median,
    theil_sen,
)

GEARS = json.loads((Path(__file__).parents[1] / "data" / "gears" / "outputs.json").read_text())["gi"]


def singles(n_genes: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.5, n_genes), rng.normal(0, 0.4, n_genes)


@pytest.mark.parametrize("kind", sorted(GEARS))
def test_scores_are_those_of_gears(kind) -> None:
    pair = GEARS[kind]
    found = interaction_scores(*(np.array(pair[name]) for name in ("first", "second", "double")))
    wanted = pair["gears"]
    # scikit-learn stops its spatial median at steps of 1e-3.
    for ours, theirs in {"c1": "c1", "c2": "c2", "magnitude": "mag"}.items():
        assert found[ours] == pytest.approx(wanted[theirs], abs=3e-3), ours
    assert found["dominance"] == pytest.approx(wanted["dominance"], abs=1e-2)
    for ours, theirs in {
        "model_fit": "corr_fit",
        "equality_of_contribution": "eq_contr",
        "similarity": "dcor",
        "similarity_of_singles": "dcor_singles",
        "similarity_first": "dcor_first",
        "similarity_second": "dcor_second",
    }.items():
        assert found[ours] == pytest.approx(wanted[theirs], abs=1e-5), ours


@pytest.mark.parametrize(
    ("c1", "c2", "kind", "dominant"),
    [
        (1.8, 1.6, "synergy", None),
        (0.4, 0.5, "suppression", None),
        (1.4, 0.1, "additive", 0),
        (-1.0, 1.0, "additive", None),
        (0.0, 1.0, "suppression", 1),
    ],
)
def test_planted_coefficients_are_found(c1, c2, kind, dominant) -> None:
    first, second = singles()
    found = interaction_scores(first, second, c1 * first + c2 * second)
    assert [found["c1"], found["c2"]] == pytest.approx([c1, c2], abs=1e-4)
    assert (found["kind"], found["dominant"]) == (kind, dominant)
    assert math.isnan(found["dominance"]) == (c1 * c2 < 0)
    assert not found["singles_alike"]
    assert interaction_scores(first, 1.1 * first, first)["singles_alike"]


def test_the_fit_withstands_genes_of_another_kind() -> None:
    """A tenth of the genes (the perturbed ones themselves, say) far off does not move the coefficients much."""
    first, second = singles(2000)
    double = first + second + np.random.default_rng(1).normal(0, 0.01, 2000)
    double[:200] += 20.0
    assert theil_sen(np.column_stack([first, second]), double) == pytest.approx([1.0, 1.0], abs=0.05)


def test_spatial_median_by_hand() -> None:
    corners = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])
    np.testing.assert_allclose(spatial_median(corners), [1.0, 1.0])
    np.testing.assert_allclose(spatial_median(np.array([[3.0, 4.0]])), [3.0, 4.0])
    # One point holds more than half of the weight: the iteration has to stop on it.
    many = np.array([[1.0, 1.0]] * 5 + [[5.0, 1.0], [1.0, 9.0]])
    np.testing.assert_allclose(spatial_median(many), [1.0, 1.0], atol=1e-4)


@pytest.mark.parametrize("n_samples", [2, 1500])
def test_distance_correlation_against_its_definition(n_samples) -> None:
    rng = np.random.default_rng(n_samples)
    x = rng.normal(size=(n_samples, 2))
    y = np.abs(x[:, 0]) + 0.1 * rng.normal(size=n_samples)

    def centred(values: np.ndarray) -> np.ndarray:
        distances = squareform(pdist(values))
        return distances - distances.mean(0) - distances.mean(1)[:, None] + distances.mean()

    a, b = centred(x), centred(y[:, None])
    wanted = np.sqrt((a * b).mean() / np.sqrt((a * a).mean() * (b * b).mean()))
    assert distance_correlation(x, y) == pytest.approx(wanted, abs=1e-9)


def test_distance_correlation_of_what_does_not_vary() -> None:
    assert distance_correlation(np.zeros(10), np.arange(10.0)) == 0.0
    found = interaction_scores(np.zeros(10), np.zeros(10), np.zeros(10))
    assert math.isnan(found["equality_of_contribution"])


def test_shapes_are_checked() -> None:
    with pytest.raises(ArgumentError, match=r"shapes \(3,\), \(4,\), \(3,\)"):
        interaction_scores(np.zeros(3), np.zeros(4), np.zeros(3))


# --- predicted pairs --------------------------------------------------------------------------------------------------


def test_predicted_pairs_come_from_the_models_changes() -> None:
    cells = demo_control_cells(2)
    with sgr.load("demo", provider="cpu") as model:
        found = predicted_interactions(model, cells, ["ZBTB1+SAMD1", "SAMD1+ZBTB1"], min_control_mean=1.0)
        changes = model.predict(cells, ["ZBTB1", "SAMD1", "SAMD1+ZBTB1"]).to_df("delta").to_numpy(dtype=float)
        with pytest.raises(PerturbationError, match=r"'FOSB\+ctrl' has 1 gene"):
            predicted_interactions(model, cells, ["FOSB+ctrl"])
        with pytest.raises(ArgumentError, match=r"0 of 5,045 genes have a mean of 50 or more.*min_control_mean=0"):
            predicted_interactions(model, cells, ["SAMD1+ZBTB1"], min_control_mean=50)
        fewer = predicted_interactions(model, cells, ["ZBTB1+SAMD1"], min_control_mean=1.5, n_controls=1)
    (pair,) = found
    assert list(pair.values())[:4] == ["ZBTB1+SAMD1", "ZBTB1", "SAMD1", 2]
    expressed = np.asarray(cells.X.mean(axis=0)).ravel() >= 1.0
    wanted = interaction_scores(*(change[expressed] for change in changes))
    assert pair["n_genes"] == int(expressed.sum())
    assert pair["c1"] == pytest.approx(wanted["c1"], abs=1e-4)
    assert pair["similarity"] == pytest.approx(wanted["similarity"], abs=1e-5)
    assert fewer[0]["n_genes"] < pair["n_genes"]
    assert fewer[0]["n_controls"] == 1


def test_command(run, tmp_path) -> None:
    cells, csv, js = tmp_path / "cells.h5ad", tmp_path / "gi.csv", tmp_path / "gi.json"
    demo_control_cells(1).write_h5ad(cells)
    pairs = tmp_path / "pairs.txt"
    pairs.write_text("CEBPE+CNN1\n")
    chosen = ("-p", "SAMD1+ZBTB1", "--perturbations", pairs, "--min-control-mean", 1, "--provider", "cpu")
    code, out, err = run("gi", "demo", cells, *chosen, "--csv", csv, "--json", js)
    assert code == 0, err
    assert [line.split()[0] for line in out.splitlines()[1:3]] == ["SAMD1+ZBTB1", "CEBPE+CNN1"]
    assert "synthetic" in err
    assert "synthetic" in out
    table = pd.read_csv(csv)
    assert table["synthetic"].all()
    content = json.loads(js.read_text())
    assert list(table.columns) == list(content[0])
    assert {"magnitude", "dominance", "equality_of_contribution", "model_fit", "kind"} <= set(table.columns)
    assert content[0]["c1"] == pytest.approx(table.loc[0, "c1"])
    before = cells.read_bytes()
    assert run("gi", "demo", cells)[0] == 2
    code, _, err = run("gi", "demo", cells, "-p", "SAMD1+ZBTB1", "--csv", cells)
    assert code == 1
    assert "is an input of the command" in err
    assert cells.read_bytes() == before
