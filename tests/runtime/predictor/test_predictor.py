from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

import scgenept_rt as sgr
from scgenept_rt.errors import ArgumentError, ExpressionValueError, NonFinitePredictionError
from scgenept_rt.perturbation import PerturbationRequest
from tests.runtime.bundle_changes import change_weight

MakeCells = Callable[..., anndata.AnnData]


@pytest.fixture(scope="module")
def values(make_cells: MakeCells) -> np.ndarray:
    return np.asarray(make_cells(6).X)


# --- load -------------------------------------------------------------------------------------------------------------


def test_load_takes_an_opened_bundle_and_fp16_on_the_cpu_when_asked(bundle: Path, values: np.ndarray) -> None:
    opened = sgr.Bundle.open(bundle)
    with sgr.load(opened, provider="cpu", precision="fp16") as half, sgr.load(opened, provider="cpu") as full:
        assert (half.precision, full.precision) == ("fp16", "fp32")
        difference = np.abs(half.predict_array(values, "YFU19") - full.predict_array(values, "YFU19")).max()
    assert 0 < difference < opened.manifest.tolerances["fp16"].atol


# --- predict_array ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [np.ndarray.tolist, np.asfortranarray, sp.csr_matrix])
def test_values_of_any_form_predict_alike_and_stay_as_they_are(
    model: sgr.Predictor, values: np.ndarray, form: Callable[[np.ndarray], object]
) -> None:
    expected = model.predict_array(values, "YFU19")
    given = form(values.copy())
    predicted = model.predict_array(given, "YFU19")
    np.testing.assert_array_equal(predicted, expected)
    assert (predicted.dtype, predicted.shape) == (np.float32, values.shape)
    kept = given.toarray() if sp.issparse(given) else np.asarray(given)
    np.testing.assert_array_equal(kept, values)


@pytest.mark.parametrize("change", [lambda x: np.expm1(x).round(), np.negative, lambda x: x * 10])
def test_values_that_cannot_be_log1p_are_warned_of(
    model: sgr.Predictor, values: np.ndarray, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    with pytest.warns(sgr.PredictionWarning, match="log1p-normalised"):
        model.predict_array(change(values), "YFU19")


@pytest.mark.parametrize("batch_size", ["auto", 2])
def test_each_cell_may_have_a_perturbation_of_its_own(
    model: sgr.Predictor, values: np.ndarray, batch_size: int | Literal["auto"]
) -> None:
    labels = np.array(["YFU19", "YFU19", "EKKN10+YFU19", "ctrl", "YFU19"])
    predicted = model.predict_array(values[[0, 1, 2, 1, 0]], labels, batch_size=batch_size)
    for row, (cell, label) in enumerate(zip([0, 1, 2, 1, 0], labels, strict=True)):
        alone = model.predict_array(values[cell : cell + 1], label)
        np.testing.assert_allclose(predicted[row : row + 1], alone, rtol=1e-4, atol=2e-5)


def test_no_cells_give_no_predictions(model: sgr.Predictor) -> None:
    assert model.predict_array(np.empty((0, 24)), []).shape == (0, 24)
    assert model.predict_array(np.empty((0, 24)), "YFU19").shape == (0, 24)


@pytest.mark.parametrize(
    ("shape", "message"),
    [((6, 23), r"of shape \(6, 23\)"), ((24,), r"values\[None, :\]"), ((24, 6), "AnnData"), ((1, 6, 24), "shape")],
)
def test_values_of_another_shape(model: sgr.Predictor, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        model.predict_array(np.zeros(shape), "YFU19")


@pytest.mark.parametrize("wrong", [np.nan, 1e300])
def test_values_that_are_not_finite_are_named_by_row_and_gene(
    model: sgr.Predictor, values: np.ndarray, wrong: float
) -> None:
    changed = values.astype(np.float64)
    changed[3, 7] = wrong
    with pytest.raises(ExpressionValueError, match="row 3, gene 'YFU19'"):
        model.predict_array(changed, "EKKN10")


def test_perturbations_of_another_type(model: sgr.Predictor, values: np.ndarray, make_cells: MakeCells) -> None:
    with pytest.raises(ArgumentError, match=r"perturbation is None \(NoneType\)"):
        model.predict_array(values, None)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="1 label for"):
        model.predict_array(values, ["YFU19"])
    with pytest.raises(ArgumentError, match=r"perturbations is None \(NoneType\)"):
        model.predict(make_cells(2), None)  # type: ignore[call-overload]


# --- predict ----------------------------------------------------------------------------------------------------------


def test_mean_is_that_of_the_cells_and_delta_is_against_the_same_cells(
    model: sgr.Predictor, make_cells: MakeCells
) -> None:
    cells = make_cells(30)
    both = model.predict(cells, ["YFU19", "EKKN10"], aggregate="both", n_controls=11, sampling="random", seed=4)
    drawn = both.cells.obs["control_cell"][:11].tolist()
    assert len(set(drawn)) == 11
    assert both.cells.obs["control_cell"][11:].tolist() == drawn
    rows = np.asarray(both.cells.X).reshape(2, 11, 24).astype(np.float64)
    np.testing.assert_allclose(both.mean.X, rows.mean(axis=1), rtol=1e-6)
    own = np.asarray(cells[drawn].X).astype(np.float64)
    np.testing.assert_allclose(both.mean.layers["delta"], (rows - own).mean(axis=1), rtol=1e-5, atol=1e-6)
    widened = stats.t.ppf(stats.norm.cdf(2), 10) / 2
    for layer, values in (("sem", rows), ("delta_sem", rows - own)):
        expected = widened * values.std(axis=1, ddof=1) / np.sqrt(11)
        assert np.all(both.mean.layers[layer] >= expected * (1 - 1e-5))
        assert np.isclose(both.mean.layers[layer], expected, rtol=1e-5).mean() > 0.5


def test_each_perturbation_may_ask_for_its_own_number_of_cells(model: sgr.Predictor, make_cells: MakeCells) -> None:
    cells = make_cells(9)
    requests = [PerturbationRequest("YFU19", 2), "EKKN10", PerturbationRequest("SWR9", 5)]
    both = model.predict(cells, requests, aggregate="both", batch_size=4)
    assert both.mean.obs["n_controls"].tolist() == [2, 9, 5]
    values = np.asarray(cells.X)
    expected = [model.predict_array(values[:n], label) for label, n in (("YFU19", 2), ("EKKN10", 9), ("SWR9", 5))]
    np.testing.assert_allclose(both.cells.X, np.concatenate(expected), rtol=1e-4, atol=2e-5)
    np.testing.assert_allclose(both.mean.X, [rows.mean(axis=0) for rows in expected], rtol=1e-4, atol=2e-5)
    controls = np.stack([values[:n].mean(axis=0) for n in (2, 9, 5)])
    np.testing.assert_allclose(both.mean.layers["delta"], both.mean.X - controls, rtol=1e-4, atol=2e-5)


@pytest.mark.parametrize(("asked", "message"), [(10, "n_controls = 10, expected 1 to the 9"), (0, "= 0")])
def test_a_perturbation_asks_for_an_impossible_number_of_cells(
    model: sgr.Predictor, make_cells: MakeCells, asked: int, message: str
) -> None:
    with pytest.raises(ArgumentError, match=message):
        model.predict(make_cells(9), [PerturbationRequest("YFU19", asked)])


def test_notices_are_told_and_kept(model: sgr.Predictor, make_cells: MakeCells) -> None:
    told: list[str] = []
    predicted = model.predict(make_cells(3), ["YFU19+ctrl", "ctrl+YFU19", "ZZ920219.5"], on_notice=told.append)
    assert predicted.obs["condition"].tolist() == ["YFU19+ctrl", "ZZ920219.5"]
    assert [notice for notice in told if "predicted once: ctrl+YFU19 (as YFU19+ctrl)" in notice]
    assert [notice for notice in told if "not in the model's vocabulary (ZZ920219.5)" in notice]
    assert "All 24 genes of the model were found in the input; 21 of them are in its vocabulary." in told
    assert predicted.uns["scgenept_rt"]["notices"].tolist() == told


def test_progress_is_told_at_the_start_and_after_each_batch(model: sgr.Predictor, make_cells: MakeCells) -> None:
    seen: list[tuple[int, int]] = []
    note = lambda *counts: seen.append(counts)  # noqa: E731
    model.predict(make_cells(2), ["YFU19", "EKKN10", "SWR9"], batch_size=4, progress=note)
    assert seen == [(0, 6), (4, 6), (6, 6)]
    seen.clear()  # an estimate knows the total from the start too
    model.predict(make_cells(40), model.gene_names[:10], max_error=1e3, progress=note)
    assert seen[0] == (0, 40 + 10 * 8)
    assert {total for _, total in seen} == {40 + 10 * 8}


def test_output_says_what_made_it(model: sgr.Predictor, make_cells: MakeCells) -> None:
    predicted = model.predict(make_cells(3), "YFU19", seed=8)
    made = predicted.uns["scgenept_rt"]
    assert made["manifest_digest"] == model.bundle.digest
    assert (made["variant"], made["provider"], made["precision"]) == (model.variant, "cpu", "fp32")
    assert (made["seed"], made["sampling"], made["n_controls_available"]) == (8, "all", 3)
    assert {"scgenept-rt", "numpy", "anndata"} <= set(made["versions"])
    assert predicted.var_names.tolist() == model.gene_names
    assert predicted.var["gene_id"].tolist() == list(model.panel.ids)
    assert predicted.obs["target_genes"].tolist() == ["YFU19"]


def test_input_is_left_as_it_was(model: sgr.Predictor, make_cells: MakeCells) -> None:
    cells = make_cells(4)
    before = cells.copy()
    model.predict(cells, "YFU19", aggregate="both")
    np.testing.assert_array_equal(cells.X, before.X)
    assert cells.obs.equals(before.obs)
    assert cells.var.equals(before.var)
    assert dict(cells.uns) == {}


# --- half precision ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle_of_large_outputs(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> sgr.Bundle:
    """The bundle with the decoder's last weights times 50,000: its outputs leave the range of fp16."""
    copy = Path(shutil.copytree(bundle, tmp_path_factory.mktemp("large") / "bundle"))
    for path in copy.glob("ort_*.onnx"):
        change_weight(path, "decoder.2.weight", lambda values: values * values.dtype.type(50_000))
    return sgr.Bundle.open(copy)


def test_overflow_of_half_precision_is_an_error_whose_advice_works(
    bundle_of_large_outputs: sgr.Bundle, values: np.ndarray
) -> None:
    with sgr.load(bundle_of_large_outputs, provider="cpu", precision="fp32") as full:
        expected = full.predict_array(values, "YFU19")
    row, gene = np.argwhere(np.abs(expected) > 66_000)[0]
    with (
        sgr.load(bundle_of_large_outputs, provider="cpu", precision="fp16") as half,
        pytest.raises(NonFinitePredictionError) as caught,
    ):
        half.predict_array(values, "YFU19")
    name = half.gene_names[gene]
    overflow = np.copysign(np.inf, expected[row, gene])
    assert f"gene {name} for cell row {row} under YFU19 is {overflow} (cpu, fp16)" in str(caught.value)
    assert "Pass precision='fp32'" in str(caught.value)
