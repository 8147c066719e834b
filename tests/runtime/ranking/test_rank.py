"""Ranking a file of predictions: order, errors, ties, and input that cannot be ranked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

import scgenept_rt as sgr
from scgenept_rt.cli import app
from scgenept_rt.errors import (
    ArgumentError,
    LabelNotFoundError,
    PerturbationFileError,
    PredictionFileError,
    UnknownGeneError,
)
from scgenept_rt.options import Metric
from scgenept_rt.ranking.ranking import largest_error
from scgenept_rt.ranking.scores import EffectSize, Score, SignatureScore, error_of, rank_ranges
from tests.runtime.ranking.screens import GENES, cells_of, effects_of, mean_and_error, prediction_file, toward

SIZES = np.array([0.5, 3.0, 1.0, 2.0, 0.1])


@pytest.fixture
def screen() -> anndata.AnnData:
    return prediction_file(effects_of(SIZES, np.random.default_rng(0)))


def measured(effect: np.ndarray, obs: dict[str, list[str]], genes: list[str] = GENES) -> anndata.AnnData:
    """Cells of two groups, those of the second after an effect."""
    base = np.random.default_rng(5).uniform(2.0, 3.0, (40, len(GENES)))
    base[20:] = np.maximum(base[20:] + effect, 0)
    adata = anndata.AnnData(
        base.astype(np.float32),
        obs=pd.DataFrame(obs, index=[f"c{n}" for n in range(40)]),
        var=pd.DataFrame(index=GENES),
    )
    return adata[:, genes].copy()


def test_effects_rank_by_size_without_the_targets(screen) -> None:
    found = sgr.rank(screen)
    assert found.table["perturbation"].tolist() == [f"GENE{n}+ctrl" for n in (1, 3, 2, 0, 4)]
    np.testing.assert_allclose(found.table["score"], sorted(SIZES)[::-1], rtol=1e-5)
    assert found.supported_ranks == ["1", "2", "3", "4", "5"]


def test_ranks_that_errors_do_not_support_are_ties(screen) -> None:
    screen.layers["delta_sem"][:] = 0.04  # some 0.25 of a length, 0.7 of a difference
    table = sgr.rank(screen).table.set_index("perturbation")
    assert tuple(table.loc["GENE1+ctrl", ["best_rank", "worst_rank"]]) == (1, 1)
    assert tuple(table.loc["GENE0+ctrl", ["best_rank", "worst_rank"]]) == (3, 5)


def test_scores_without_errors_are_taken_as_exact_with_a_word(screen) -> None:
    screen.layers["delta_sem"][:2] = np.nan
    notices: list[str] = []
    sgr.rank(screen, on_notice=notices.append)
    assert any("2 perturbations have no standard errors" in notice for notice in notices)


def test_the_layer_effect_comes_before_delta_unless_it_is_unknown(screen) -> None:
    screen.layers["effect"] = screen.X[::-1].copy()
    screen.layers["effect_sem"] = screen.layers["delta_sem"]
    assert "layer effect" in sgr.rank(screen).description
    screen.layers["effect"][:] = np.nan  # as where all cells were predicted
    assert "layer delta" in sgr.rank(screen).description


def test_a_signature_by_symbol_id_and_former_name(screen) -> None:
    screen.var_names = [{"GENE7": "NSD2", "GENE8": "ENSG00000170345"}.get(gene, gene) for gene in GENES]
    screen.layers["delta"][2, [7, 8]] = 4.0, 2.0
    screen.layers["delta"][2, 9] = -3.0
    notices: list[str] = []
    with pytest.warns(sgr.PredictionWarning, match="NOSUCH"):
        found = sgr.rank(screen, up=["WHSC1", "ENSG00000170345.3", "NOSUCH"], down=["GENE9"], on_notice=notices.append)
    assert found.table["perturbation"][0] == "GENE2+ctrl"
    assert found.table["score"][0] == pytest.approx(3.0 + 3.0)
    assert any("WHSC1 is NSD2" in notice for notice in notices)
    weighted = sgr.rank(screen, weights={"NSD2": 3.0, "ENSG00000170345": 1.0})
    assert weighted.table["score"][0] == pytest.approx(3.5)


def test_a_target_in_the_signature_does_not_count(screen) -> None:
    table = sgr.rank(screen, up=["GENE1"]).table
    assert np.isnan(table["score"].iloc[-1])
    assert table["perturbation"].iloc[-1] == "GENE1+ctrl"
    assert pd.isna(table["rank"].iloc[-1])


@pytest.mark.parametrize("metric", ["cosine", "pearson", "distance"])
def test_toward_a_state(screen, metric: Metric) -> None:
    effect = screen.layers["delta"][3].copy()
    effect[3] = 0.0
    data = measured(effect, {"CELLTYPE": ["K562"] * 20 + ["Erythroid"] * 20, "condition": ["ctrl"] * 40})
    lacking = data[:, GENES[:50]].copy()
    notices: list[str] = []
    states = {"group": "CELLTYPE=Erythroid", "start": "CELLTYPE=K562"}
    read, note = {"allow_unnormalized": True}, notices.append
    for cells in (data, lacking):
        found = sgr.rank(screen, toward=cells, metric=metric, read=read, on_notice=note, **states)
        assert found.table["perturbation"][0] == "GENE3+ctrl"
    assert any("10 predicted genes are not measured" in notice for notice in notices)


def test_few_measured_cells_make_bars_longer_but_hardly_blur_ranks(screen) -> None:
    noise = np.random.default_rng(5).normal(0, 0.3, (2000, len(GENES)))
    data = measured(screen.layers["delta"][3], {"state": ["from"] * 20 + ["to"] * 20})
    many = data[np.repeat(np.arange(40), 50)].copy()
    many.X = (many.X + noise).astype(np.float32)
    many.obs_names_make_unique()
    few = many[::50].copy()
    by: dict[str, Any] = {"group": "state=to", "start": "state=from", "read": {"allow_unnormalized": True}}
    exact, long, short = (sgr.rank(screen, toward=cells, **by).table for cells in (data, few, many))
    assert long["error"][0] > short["error"][0] + 0.01
    assert abs(long["score"][0] - exact["score"][0]) < 2 * long["error"][0]
    assert long["worst_rank"][0] == 1
    with pytest.warns(sgr.PredictionWarning, match="single measured cell"):
        sgr.rank(screen, toward=data[19:21].copy(), **by)


@pytest.mark.parametrize("metric", ["cosine", "pearson", "distance"])
def test_noise_of_measured_means_leaves_scores_in_their_range(metric: Metric) -> None:
    rng = np.random.default_rng(3)
    change = effects_of(np.array([2.0]), rng)[0]
    parts = change + rng.normal(0, 1, (16, len(change)))
    state = toward(parts.mean(axis=0), metric, parts)
    same, reverse, none = (state.of(each, ())[0] for each in (state.target, -state.target, 0.0 * change))
    if metric == "distance":
        assert f"of no change: {none:.4g}" in state.description
        assert same == 0.0 < none < np.linalg.norm(state.target)
    else:
        assert (same, reverse) == (1.0, -1.0)


def test_toward_the_measured_cells_of_a_perturbation(screen) -> None:
    data = measured(screen.layers["delta"][2].copy(), {"condition": ["ctrl"] * 20 + ["ctrl+GENE2"] * 20})
    with pytest.warns(sgr.PredictionWarning, match="not log1p"):
        found = sgr.rank(screen, toward=data, group="GENE2", read={"allow_unnormalized": True})
    assert found.table["perturbation"][0] == "GENE2+ctrl"
    with pytest.raises(LabelNotFoundError, match="GENE9"):
        sgr.rank(screen, toward=data, group="GENE9+ctrl")
    with pytest.raises(LabelNotFoundError, match=r"ctrl\+GENE2"):
        sgr.rank(screen, toward=data, group="condition=GENE7")


@pytest.mark.parametrize(
    ("by", "option"),
    [
        ({"up": []}, None),
        ({"up": ["GENE1"], "down": ["GENE1"]}, None),
        ({"up": ["GENE1"], "weights": {"GENE2": 1.0}}, None),
        ({"weights": {"GENE2": float("nan")}}, None),
        ({"up": ["GENE1"], "toward": "x.h5ad", "group": "a=b"}, None),
        ({"toward": "x.h5ad"}, "group"),
        ({"group": "a=b"}, "toward"),
        ({"metric": "cosine"}, "toward"),
    ],
)
def test_what_cannot_be_ranked_by(screen, by: dict, option: str | None) -> None:
    with pytest.raises(ArgumentError) as error:
        sgr.rank(screen, **by)
    assert [use.name for use in error.value.options] == ([option] if option else [])


def test_predictions_that_cannot_be_ranked(screen) -> None:
    with pytest.raises(UnknownGeneError, match="GENE99"):
        sgr.rank(screen, up=["GENE99", "NOSUCH"])
    with pytest.raises(ArgumentError, match="no perturbation has a score"):
        sgr.rank(screen[:1].copy(), up=["GENE0"])
    control = screen[:1].copy()
    control.obs["condition"] = "ctrl"
    with pytest.raises(PredictionFileError, match="no perturbation"):
        sgr.rank(control)


SCORES: dict[str, Callable[[np.ndarray], Score]] = {
    "size": lambda _: EffectSize(),
    "signature": lambda effect: SignatureScore(np.where(np.arange(len(effect)) % 5 == 1, np.sign(effect), 0.0)),
    "cosine": lambda effect: toward(effect + 0.1, "cosine"),
    "pearson": lambda effect: toward(effect**2, "pearson"),
    "distance": lambda effect: toward(2 * effect, "distance"),
}


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("together", [0.0, 0.9])
def test_two_errors_of_a_score_cover_the_truth(name: str, together: float) -> None:
    rng = np.random.default_rng(1)
    effect = effects_of(np.array([2.0]), rng)[0]
    cells = cells_of(effect, together, rng)
    score = SCORES[name](effect)
    truth = score.of(cells.mean(axis=0), (0,))[0]
    covered = []
    for n in (8, 32, 128):
        for _ in range(100):
            mean, sem = mean_and_error(cells[rng.integers(0, len(cells), n)])
            found, gradient = score.of(mean, (0,))
            covered.append(abs(found - truth) <= 2 * largest_error(gradient, sem))
    assert np.mean(covered) >= 0.95


@pytest.mark.parametrize("metric", ["cosine", "pearson", "distance"])
@pytest.mark.parametrize("together", [0.0, 0.9])
def test_errors_of_the_measured_state_are_in_those_of_the_score(metric: Metric, together: float) -> None:
    rng = np.random.default_rng(4)
    target, other = effects_of(np.array([2.0, 2.0]), rng)
    change = target + 0.5 * other
    cells = cells_of(target, together, rng)
    truth = toward(cells.mean(axis=0), metric).of(change, (0, 1))[0]
    covered = []
    for _ in range(200):
        parts = cells[rng.integers(0, len(cells), 32)].reshape(16, 2, -1).mean(axis=1)
        state = toward(parts.mean(axis=0), metric, parts)
        error = error_of(state.by_part(change, (0, 1)))
        covered.append(abs(state.of(change, (0, 1))[0] - truth) <= 2 * error)
    assert np.mean(covered) >= 0.92


@pytest.mark.parametrize("name", SCORES)
def test_gradients_are_those_of_the_scores(name: str) -> None:
    rng = np.random.default_rng(2)
    effect = effects_of(np.array([2.0]), rng)[0]
    score, change = SCORES[name](effect), effect + rng.normal(size=len(effect))
    step = 1e-6 * rng.normal(size=len(effect))
    value, gradient = score.of(change, (0, 4))
    assert score.of(change + step, (0, 4))[0] - value == pytest.approx(gradient @ step, rel=1e-3)
    assert gradient[0] == gradient[4] == 0


def test_a_target_that_was_predicted_is_left_out_beside_one_that_was_not(screen) -> None:
    screen.obs["condition"] = [label.replace("ctrl", "NOSUCH") for label in screen.obs["condition"]]
    np.testing.assert_allclose(sgr.rank(screen).table["score"], sorted(SIZES)[::-1], rtol=1e-5)


def test_ranges_of_ranks() -> None:
    shared = np.empty((4, 0))
    best, worst = rank_ranges(np.array([5.0, 4.0, 3.9, 1.0]), np.array([0.1, 0.1, 0.1, 0.0]), shared)
    assert best.tolist() == [1, 2, 2, 4]
    assert worst.tolist() == [1, 3, 3, 4]
    of_differences = np.array([[0.0, 9.0, 0.1], [9.0, 0.0, 0.01], [0.1, 0.01, 0.0]])  # errors that cancel, or add up
    best, worst = rank_ranges(np.array([5.0, 4.0, 3.9, 1.0]), np.full(4, 0.1), shared, of_differences)
    assert best.tolist() == [1, 1, 3, 4]
    assert worst.tolist() == [2, 2, 3, 4]


def test_the_command(screen, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    screen.write_h5ad("means.h5ad")
    Path("up.txt").write_text("GENE20\nGENE21\n")
    Path("signature.csv").write_text("names,logfoldchanges\nGENE20,1.5\nGENE21,-0.5\n")

    def run(*options: str) -> Any:
        return CliRunner().invoke(app, ["rank", "means.h5ad", *options])

    result = run("--csv", "ranks.csv", "--figure", "ranks.png", "--top", "2")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].split()[:2] == ["1", "GENE1+ctrl"]
    table = pd.read_csv("ranks.csv")
    assert table["perturbation"].tolist() == sgr.rank(screen).table["perturbation"].tolist()
    assert Path("ranks.png").stat().st_size > 10_000
    assert run("--up", "up.txt").exit_code == run("--weights", "signature.csv").exit_code == 0
    assert isinstance(run("--weights", "up.txt").exception, PerturbationFileError)
    assert "--group" in str(run("--toward", "means.h5ad").exception)
