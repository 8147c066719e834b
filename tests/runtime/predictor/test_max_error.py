"""`max_error`: as many control cells as bring every gene's standard error down to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pytest
from scipy import stats

import scgenept_rt as sgr

if TYPE_CHECKING:
    from tests.runtime.conftest import CommandServer

MakeCells = Callable[..., anndata.AnnData]


def test_never_fewer_than_32_cells(model: sgr.Predictor, make_cells: MakeCells) -> None:
    predicted = model.predict(make_cells(100), ["YFU19", "EKKN10"], max_error=1e6, batch_size=5)
    assert predicted.obs["n_controls"].tolist() == [35, 35]  # the first whole number of batches from 32 on


def test_all_cells_where_there_are_fewer_than_32(model: sgr.Predictor, make_cells: MakeCells) -> None:
    predicted = model.predict(make_cells(9), "YFU19", max_error=1e6, batch_size=5)
    assert predicted.obs["n_controls"].tolist() == [9]


def test_all_cells_where_the_error_cannot_be_reached(model: sgr.Predictor, make_cells: MakeCells) -> None:
    cells = make_cells(101)
    predicted = model.predict(cells, ["YFU19", "EKKN10"], max_error=1e-9, batch_size=8)
    every = model.predict(cells, ["YFU19", "EKKN10"])
    assert predicted.obs["n_controls"].tolist() == [101, 101]
    for ours, expected in ((predicted.X, every.X), *((predicted.layers[k], every.layers[k]) for k in ("delta", "sem"))):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=2e-5)
    assert predicted.layers["sem"].max() > 1e-9


def test_batches_are_not_padded_beyond_the_cells_of_one_perturbation(
    model: sgr.Predictor, make_cells: MakeCells
) -> None:
    sizes: list[int] = []

    class FixedSession:
        provider, precision, fixed_batches = "cuda", "fp32", True

        def run(self, values: np.ndarray, *_: np.ndarray) -> np.ndarray:
            sizes.append(len(values))
            return values

    predictor = sgr.Predictor(model.bundle, FixedSession())
    predictor.predict(make_cells(6), ["YFU19", "EKKN10", "ctrl"], max_error=1e-9, batch_size=64)
    assert sizes == [8, 8, 8]


def test_stops_at_the_first_batch_that_reaches_the_error(model: sgr.Predictor, make_cells: MakeCells) -> None:
    cells, max_error = make_cells(1000), 0.03
    predicted = model.predict(cells, "YFU19", max_error=max_error, batch_size=10, seed=3)
    order = np.random.RandomState(3).permutation(1000)
    rows = model.predict_array(np.asarray(cells.X)[order], "YFU19").astype(np.float64)
    used = int(predicted.obs["n_controls"].iloc[0])

    def sem(n_cells: int) -> np.ndarray:
        return rows[:n_cells].std(axis=0, ddof=1) / np.sqrt(n_cells)

    assert 32 < used < 1000
    assert sem(used).max() <= max_error < sem(used - 10).max()
    np.testing.assert_allclose(predicted.layers["sem"][0], sem(used), rtol=1e-3)
    np.testing.assert_allclose(predicted.X[0], rows[:used].mean(axis=0), rtol=1e-4, atol=2e-5)
    control_mean = np.asarray(cells.X)[order[:used]].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(predicted.layers["delta"][0], predicted.X[0] - control_mean, rtol=1e-4, atol=2e-5)


def test_reported_standard_error_is_calibrated(model: sgr.Predictor, make_cells: MakeCells) -> None:
    """The mean over all 2,000 cells lies within 1.96 sem of the reported one as often as 95% promises.

    Each of 200 seeds draws its own cells. Were coverage exactly 95%, the count for one gene would be
    Binomial(200, 0.95); its 1e-5 and 1 - 1e-5 quantiles are the bounds for each of the 24 genes, so that a right
    implementation fails about once in 2,000 choices of seeds. The sample is part of the population (at most a tenth
    here), which makes the interval up to 5% too wide and coverage at most 96%: well within the bounds.
    """
    cells, n_seeds = make_cells(2000), 200
    full_mean = model.predict_array(cells.X, "YFU19").mean(axis=0, dtype=np.float64)
    covered = np.zeros(24, dtype=int)
    used = []
    for seed in range(n_seeds):
        (row,) = model.iter_predict(cells, "YFU19", max_error=0.07, seed=seed, batch_size=16)
        covered += np.abs(row.X[0] - full_mean) <= 1.96 * row.layers["sem"][0]
        used.append(row.n_controls)
    fewest, most = stats.binom.ppf([1e-5, 1 - 1e-5], n_seeds, 0.95)
    print(f"coverage {covered.sum() / (24 * n_seeds):.3f}, control cells used on average {np.mean(used):.0f} of 2,000")
    assert covered.min() >= fewest
    assert covered.max() <= most
    assert 32 < np.mean(used) < 200


def test_command_writes_n_controls_sem_and_the_error(
    command_line: CommandServer, bundle: Path, make_cells: MakeCells, tmp_path: Path
) -> None:
    cells, out = tmp_path / "cells.h5ad", tmp_path / "out.h5ad"
    make_cells(300).write_h5ad(cells)
    options = ["--max-error", "0.08", "--batch-size", "8", "--seed", "5"]
    result = command_line("predict", bundle, cells, "--out", out, "-p", "YFU19", "-p", "EKKN10", *options)
    assert result.returncode == 0, result.stderr
    assert "added in random order (seed 5)" in result.stderr
    written = anndata.read_h5ad(out)
    assert all(32 <= used < 300 for used in written.obs["n_controls"])
    assert np.all(written.layers["sem"] <= 0.08)
    recorded = written.uns["scgenept_rt"]
    assert (recorded["max_error"], recorded["sampling"], recorded["seed"]) == (0.08, "random", 5)
    assert recorded["n_controls_available"] == 300


def test_an_error_that_is_not_reached_is_a_notice(model: sgr.Predictor, make_cells: MakeCells) -> None:
    notices: list[str] = []
    predicted = model.predict(make_cells(40), ["YFU19", "EKKN10"], max_error=1e-9, on_notice=notices.append)
    sem = predicted.layers["sem"]
    row, gene = np.unravel_index(sem.argmax(), sem.shape)
    assert "2 of 2 perturbations missed max_error 1e-09 with all 40 control cells" in notices[-1]
    worst = f"{sem.max():.3g}, of {predicted.var_names[gene]} for {predicted.obs['condition'].iloc[row]}"
    assert f"The largest standard error is {worst}. Add control cells" in notices[-1]
    assert list(predicted.uns["scgenept_rt"]["notices"]) == notices


def test_only_perturbations_that_missed_the_error_count(model: sgr.Predictor, make_cells: MakeCells) -> None:
    sem = model.predict(make_cells(40), ["YFU19", "EKKN10"]).layers["sem"].max(axis=1)
    assert sem[0] != sem[1]
    notices: list[str] = []
    model.predict(make_cells(40), ["YFU19", "EKKN10"], max_error=float(sem.mean()), on_notice=notices.append)
    assert notices[-1].startswith("1 of 2 perturbations missed")
    assert f"for {['YFU19', 'EKKN10'][sem.argmax()]}. " in notices[-1]
    predicted = model.predict(make_cells(40), "YFU19", max_error=float(sem[0]) * 1.01, on_notice=notices.append)
    assert "missed max_error" not in notices[-1]
    assert "missed max_error" not in "".join(predicted.uns["scgenept_rt"]["notices"])


def test_one_control_cell_has_no_standard_error_to_reach(model: sgr.Predictor, make_cells: MakeCells) -> None:
    notices: list[str] = []
    model.predict(make_cells(5), "YFU19", max_error=1e6, n_controls=1, on_notice=notices.append)
    assert "1 of 1 perturbation missed" in notices[-1]
    assert "A single control cell has no standard error. Pass n_controls=... to use more of 5 control" in notices[-1]


@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_the_command_reports_a_missed_error_also_when_nothing_is_left_to_predict(
    command_line: CommandServer, bundle: Path, make_cells: MakeCells, tmp_path: Path, ending: str
) -> None:
    cells = tmp_path / "cells.h5ad"
    make_cells(40).write_h5ad(cells)
    command = ["predict", bundle, cells, "--out", tmp_path / f"out.{ending}", "-p", "YFU19", "--max-error", "1e-9"]
    for options in ([], ["--resume"]):
        result = command_line(*command, *options)
        assert result.returncode == 0, result.stderr
        assert "1 of 1 perturbation missed" in result.stderr
