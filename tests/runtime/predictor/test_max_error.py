"""`max_error` and `n_controls_per_perturbation`: few control cells stand for all."""

from __future__ import annotations

from collections.abc import Callable

import anndata
import numpy as np
import pytest

import scgenept_rt as sgr
from scgenept_rt.perturbation import PerturbationRequest

MakeCells = Callable[..., anndata.AnnData]
LABELS = ["YFU19", "EKKN10", "YFU19+EKKN10", "ctrl"]


class Counting:
    """A session that counts the cells it predicts."""

    def __init__(self, model: sgr.Predictor) -> None:
        self._session = model.session
        self.batches: list[int] = []
        self.provider, self.precision, self.fixed_batches = "cpu", "fp32", False

    @property
    def n_cells(self) -> int:
        return sum(self.batches)

    def run(self, values: np.ndarray, *others: np.ndarray) -> np.ndarray:
        self.batches.append(len(values))
        return self._session.run(values, *others)


@pytest.mark.parametrize(
    ("max_error", "n_cells", "n_perturbations"),
    [(0.05, 100, 1), (1e-9, 100, 20), (0.05, 100, 20), (1e6, 100, 20), (0.02, 60, 5), (0.06, 60, 5), (0.06, 200, 2)],
)
def test_every_error_is_reached_at_no_more_than_the_cost_of_all_cells(
    model: sgr.Predictor, make_cells: MakeCells, max_error: float, n_cells: int, n_perturbations: int
) -> None:
    counting = Counting(model)
    others = [gene for gene in model.gene_names if gene not in LABELS]
    labels = [*LABELS, *others][:n_perturbations]
    cells = make_cells(n_cells)
    found = sgr.Predictor(model.bundle, counting).predict(cells, labels, max_error=max_error, seed=5)
    every = model.predict(cells, labels)
    assert counting.n_cells <= n_cells * found.n_obs
    assert found.layers["sampling_error"].max() <= max_error
    error = np.abs(found.X - every.X)
    assert np.mean(error <= 2 * found.layers["sampling_error"] + 2e-5) >= 0.93
    layers = {name for name in found.layers if name is not None}  # anndata 0.13: None is X
    assert layers == {"delta", "sem", "delta_sem", "sampling_error", "effect", "effect_sem"}
    recorded = found.uns["scgenept_rt"]
    assert (recorded["max_error"], recorded["sampling"], recorded["seed"]) == (max_error, "random", 5)
    if max_error == 1e-9:
        np.testing.assert_allclose(found.layers["sem"], every.layers["sem"], rtol=1e-3, atol=1e-6)
    if max_error == 1e6:
        # The control is one of the perturbations: it is predicted once, for all cells.
        assert found.obs["n_controls"].tolist() == [100 if label == "ctrl" else 8 for label in found.obs["condition"]]
        assert counting.n_cells == 100 + 8 * (found.n_obs - 1)
        np.testing.assert_allclose(found.X - model.predict(cells, "ctrl").X, found.layers["effect"], atol=1e-4)


def test_a_fixed_number_of_cells(model: sgr.Predictor, make_cells: MakeCells) -> None:
    cells = make_cells(60)
    found = model.predict(cells, LABELS, n_controls_per_perturbation=12, seed=3)
    assert found.obs["n_controls"].tolist() == [12, 12, 12, 60]
    drawn = np.random.RandomState(3).permutation(60)
    values = np.asarray(cells.X)[drawn]
    unperturbed = model.predict_array(values, "ctrl").astype(np.float64)
    effect = model.predict_array(values[:12], "EKKN10") - unperturbed[:12]
    np.testing.assert_allclose(found.X[1], unperturbed.mean(axis=0) + effect.mean(axis=0), rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(found.layers["effect"][1], effect.mean(axis=0), rtol=1e-3, atol=2e-5)
    assert np.all(found.layers["effect_sem"][1] >= effect.std(axis=0, ddof=1) / np.sqrt(12) - 1e-5)


def test_where_few_cells_do_not_pay_all_are_predicted(model: sgr.Predictor, make_cells: MakeCells) -> None:
    notices: list[str] = []
    found = model.predict(make_cells(40), "YFU19", max_error=0.5, on_notice=notices.append)
    assert found.obs["n_controls"].tolist() == [40]
    assert found.layers["sampling_error"].max() == 0
    assert np.isnan(found.layers["effect"]).all()
    assert any("effect" in notice for notice in notices)


def test_several_perturbations_share_a_batch(model: sgr.Predictor, make_cells: MakeCells) -> None:
    counting, labels = Counting(model), [gene for gene in model.gene_names if gene != "ctrl"][:10]
    sgr.Predictor(model.bundle, counting).predict(make_cells(64), labels, n_controls_per_perturbation=8, batch_size=32)
    assert counting.batches == [32, 32, 32, 32, 16]


@pytest.mark.parametrize("max_error", [1e-9, 0.04])
def test_effects_are_known_beside_the_control_itself(
    model: sgr.Predictor, make_cells: MakeCells, max_error: float
) -> None:
    """What is predicted without a perturbation serves as the row of the control, and costs nothing more."""
    cells, counting = make_cells(40), Counting(model)
    found = sgr.Predictor(model.bundle, counting).predict(cells, ["YFU19", "ctrl"], max_error=max_error)
    every = model.predict(cells, ["YFU19", "ctrl"])
    assert counting.n_cells <= 80
    assert found.obs["n_controls"].iloc[1] == 40
    np.testing.assert_allclose(found.X[1], every.X[1], atol=1e-5)
    np.testing.assert_allclose(found.layers["effect"][0], found.X[0] - every.X[1], atol=1e-4)
    assert np.abs(found.layers["effect"][1]).max() == found.layers["effect_sem"][1].max() == 0


class VaryingEffects(Counting):
    """A session whose effects vary between cells: up and down with the first two genes, much with the others."""

    def __init__(self, model: sgr.Predictor, of_first: float) -> None:
        super().__init__(model)
        self._strengths = np.array([of_first, -of_first, *[10.0] * (len(model.gene_names) - 2)], np.float32)

    def run(self, values: np.ndarray, pert_flags: np.ndarray, gene_index: np.ndarray) -> np.ndarray:
        varying = (pert_flags @ self._strengths)[:, None] * values
        return super().run(values, pert_flags, gene_index) + varying.astype(np.float32)


@pytest.mark.parametrize(("of_first", "n_of_first"), [(0.0, 8), (1.1, 40)])
def test_what_later_perturbations_need_never_costs_more_than_all_cells(
    model: sgr.Predictor, make_cells: MakeCells, of_first: float, n_of_first: int
) -> None:
    """Few cells stand for all only if the first perturbations, a batch's double, are worth it alone."""
    session = VaryingEffects(model, of_first)
    labels = list(model.gene_names[:10])
    found = sgr.Predictor(model.bundle, session).predict(make_cells(40), labels, max_error=0.3, batch_size=1)
    assert found.obs["n_controls"].tolist() == [n_of_first] * 2 + [40] * 8
    assert session.n_cells <= 40 * 10


def test_means_that_were_limited_and_missed_the_error_are_named(model: sgr.Predictor, make_cells: MakeCells) -> None:
    notices: list[str] = []
    requests = [PerturbationRequest("YFU19", 8), *map(PerturbationRequest, LABELS[1:])]
    found = model.predict(make_cells(300), requests, max_error=0.06, on_notice=notices.append)
    errors = found.layers["sampling_error"].max(axis=1)
    assert found.obs["n_controls"].iloc[0] == 8
    assert errors[0] > 0.06 >= errors[1:].max()
    assert "1 of 4 perturbations missed max_error" in notices[-1]
    assert "YFU19" in notices[-1]
    assert found.uns["scgenept_rt"]["notices"][-1] == notices[-1]
