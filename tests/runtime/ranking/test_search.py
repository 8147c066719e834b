"""The best of a screen for a fraction of its cost: a bundle in the place of predictions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from typer.testing import CliRunner

import scgenept_rt as sgr
from scgenept_rt.cli import app
from scgenept_rt.errors import ArgumentError, PerturbationError
from scgenept_rt.predictor.difference_estimator import DifferenceEstimator
from scgenept_rt.ranking.scores import EffectSize, Score, SignatureScore
from tests.runtime.ranking.screens import toward

MakeCells = Callable[..., anndata.AnnData]
N_GENES, N_CELLS, TOP = 24, 256, 10
RNG = np.random.default_rng(3)
EFFECTS = RNG.normal(size=(N_GENES, N_GENES)) * RNG.gamma(0.5, 1.0, (N_GENES, 1))
"""What each gene does when it is perturbed; of a pair the effects add up."""

TARGET = EFFECTS[2] + 0.5 * EFFECTS[11]
SCORES: dict[str, Score] = {
    "size": EffectSize(),
    "signature": SignatureScore(np.array([1.0, 1.0, -1.0] + [0.0] * (N_GENES - 3))),
    "distance": toward(TARGET, "distance"),
}


class Planted:
    """A network with known effects, which counts the cells it predicts.

    Effects are stronger in some cells than in others, and in genes that a cell expresses.
    """

    provider, precision, fixed_batches = "cpu", "fp32", False

    def __init__(self) -> None:
        self.n_cells = 0

    def run(self, values: np.ndarray, pert_flags: np.ndarray, _: np.ndarray) -> np.ndarray:
        self.n_cells += len(values)
        strength = 1 + 0.3 * np.tanh(values[:, :1] - 1) + 0.3 * np.tanh(values[:, 1:2] - 1)
        effects = pert_flags @ EFFECTS * strength * (0.5 + 0.5 * (values > 0))
        return (0.7 * values + effects).astype(np.float32)


class TwoStates(Planted):
    """In one cell of ten, effects are three times as strong."""

    def __init__(self, cells: anndata.AnnData) -> None:
        super().__init__()
        self.least = np.quantile(cells.X[:, 5], 0.9)

    def run(self, values: np.ndarray, pert_flags: np.ndarray, gene_index: np.ndarray) -> np.ndarray:
        predicted = super().run(values, pert_flags, gene_index)
        return predicted + 2 * (pert_flags @ EFFECTS * (values[:, 5:6] > self.least)).astype(np.float32)


@pytest.fixture
def predictor(model: sgr.Predictor) -> sgr.Predictor:
    return sgr.Predictor(model.bundle, Planted())


def scores_of_all(cells: anndata.AnnData, score: Score, network: Planted | None = None) -> dict[str, float]:
    """The scores of all pairs from all cells."""
    network = network or Planted()
    names = cells.var_names.tolist()
    found = {}
    for pair in itertools.combinations(range(N_GENES), 2):
        flags = np.zeros(cells.shape, np.int64)
        flags[:, list(pair)] = 1
        effects = network.run(cells.X, flags, flags) - network.run(cells.X, 0 * flags, flags)
        value = score.of(effects.mean(axis=0, dtype=np.float64), pair)[0]
        found["+".join(names[gene] for gene in pair)] = value
    return found


def measured(cells: anndata.AnnData) -> anndata.AnnData:
    """Measured cells whose state differs from the control cells by the target."""
    values = np.full((40, N_GENES), 20.0, np.float32)
    values[20:] += TARGET
    data = anndata.AnnData(values, var=cells.var.copy())
    data.obs_names = [f"cell{number}" for number in range(40)]
    data.obs["condition"] = "ctrl"
    data.obs["state"] = ["from"] * 20 + ["to"] * 20
    return data


@pytest.mark.filterwarnings("ignore::scgenept_rt.PredictionWarning")
@pytest.mark.parametrize("name", SCORES)
def test_the_best_are_those_of_the_full_screen(predictor: sgr.Predictor, make_cells: MakeCells, name: str) -> None:
    cells = make_cells(N_CELLS)
    genes = cells.var_names.tolist()
    by: dict[str, dict] = {
        "size": {},
        "signature": {"up": genes[:2], "down": genes[2:3]},
        "distance": {"toward": measured(cells), "group": "state=to", "start": "state=from", "metric": "distance"},
    }
    pairs = [f"{first}+{second}" for first, second in itertools.combinations(genes, 2)]
    found = sgr.rank(predictor, cells, [*pairs, "ctrl"], top=TOP, read={"allow_unnormalized": True}, **by[name])
    score, truth = SCORES[name], scores_of_all(cells, SCORES[name])
    order = sorted(pairs, key=truth.__getitem__, reverse=score.sign > 0)
    assert set(found.table["perturbation"][:TOP]) == set(order[:TOP])
    assert predictor.session.n_cells <= len(pairs) * N_CELLS / 5
    errors = (found.table["score"] - found.table["perturbation"].map(truth)).abs()
    assert (errors <= 2 * found.table["error"] + 1e-6).mean() >= 0.93
    assert sorted(found.table["perturbation"]) == sorted(pairs)
    ranks = found.table["perturbation"].map({pair: rank for rank, pair in enumerate(order, 1)})
    within = ranks.between(found.table["best_rank"], found.table["worst_rank"])
    assert within[:TOP].all()
    assert within.mean() >= 0.95
    assert found.table["worst_rank"][:TOP].max() < 2.5 * TOP


@pytest.mark.filterwarnings("ignore::scgenept_rt.PredictionWarning")
def test_errors_hold_where_few_cells_may_all_be_of_one_kind(model: sgr.Predictor, make_cells: MakeCells) -> None:
    cells = make_cells(N_CELLS)
    network = TwoStates(cells)
    truth = scores_of_all(cells, SCORES["size"], network)
    covered = []
    for seed in range(4):
        network.n_cells = 0
        predictor = sgr.Predictor(model.bundle, network)
        found = sgr.rank(predictor, cells, [*truth], top=TOP, seed=seed, read={"allow_unnormalized": True}).table
        assert set(found["perturbation"][:TOP]) == set(sorted(truth, key=truth.__getitem__)[-TOP:])
        assert network.n_cells <= len(truth) * N_CELLS / 5
        errors = (found["score"] - found["perturbation"].map(truth)).abs()
        covered.append((errors <= 2 * found["error"] + 1e-6).mean())
    assert np.mean(covered) >= 0.93


@pytest.mark.filterwarnings("ignore::scgenept_rt.PredictionWarning")
@pytest.mark.parametrize(("n_cells", "top"), [(1, 2), (2, 1), (9, 2), (40, 5), (40, 50)])
def test_few_cells_or_candidates(predictor: sgr.Predictor, make_cells: MakeCells, n_cells: int, top: int) -> None:
    cells = make_cells(n_cells)
    labels = cells.var_names[:6].tolist()
    found = sgr.rank(predictor, cells, labels, top=top)
    assert sorted(found.table["perturbation"]) == sorted(labels)
    assert predictor.session.n_cells <= (len(labels) + 1) * n_cells


def test_errors_of_a_search(predictor: sgr.Predictor, make_cells: MakeCells) -> None:
    with pytest.raises(ArgumentError) as error:
        sgr.rank(predictor)
    assert {use.name for use in error.value.options} == {"cells", "perturbations"}
    with pytest.raises(PerturbationError, match="control"):
        sgr.rank(predictor, make_cells(8), ["ctrl"])


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["rank", *map(str, arguments)])


def test_the_command_with_a_bundle(bundle: Path, make_cells: MakeCells, tmp_path: Path) -> None:
    make_cells(60).write_h5ad(tmp_path / "cells.h5ad")
    result = run(bundle, tmp_path / "cells.h5ad", "--all-singles", "--top", "3", "--csv", tmp_path / "ranks.csv")
    assert result.exit_code == 0, result.output
    assert len((tmp_path / "ranks.csv").read_text().splitlines()) == 1 + N_GENES
    assert "of 24 candidates left after" in result.stderr
    assert run(bundle).exit_code == run(bundle, tmp_path / "cells.h5ad").exit_code == 2


@pytest.mark.parametrize(("interrupted_at", "n_known"), [(0, 0), (10, 10), (None, 24)])
def test_what_is_known_when_a_search_is_interrupted(
    bundle: Path, make_cells: MakeCells, tmp_path: Path, monkeypatch: Any, interrupted_at: int | None, n_known: int
) -> None:
    make_cells(60).write_h5ad(tmp_path / "cells.h5ad")
    effects = DifferenceEstimator.effects

    def interrupted(self: DifferenceEstimator, indices: list[int], begin: int, end: int) -> Iterator[Any]:
        for number, found in enumerate(effects(self, indices, begin, end)):
            if begin or number == interrupted_at:
                raise KeyboardInterrupt
            yield found

    monkeypatch.setattr(DifferenceEstimator, "effects", interrupted)
    result = run(bundle, tmp_path / "cells.h5ad", "--all-singles", "--top", "3")
    assert result.exit_code == 130, result.exception
    assert "interrupted" in result.stderr
    assert not n_known or f"3 of {n_known} perturbations" in result.stdout
