from __future__ import annotations

from collections.abc import Callable

import anndata
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scgenept_rt as sgr
from scgenept_rt.expression import ControlCells, read_control_cells
from scgenept_rt.perturbation import Perturbation, PerturbationRequest
from scgenept_rt.predictor.schedule import BatchRunner, Schedule

MakeCells = Callable[..., anndata.AnnData]
REQUESTS = [PerturbationRequest("YFU19", 3), PerturbationRequest("ctrl"), PerturbationRequest("YFU19+EKKN10", 1)]


@pytest.fixture(scope="module")
def controls(model: sgr.Predictor, make_cells: MakeCells) -> ControlCells:
    return read_control_cells(make_cells(7), model.panel)


@pytest.fixture(scope="module")
def perturbations(model: sgr.Predictor) -> list[Perturbation]:
    return model.parse(REQUESTS)[0]


@pytest.fixture(scope="module")
def expected(model: sgr.Predictor, make_cells: MakeCells) -> np.ndarray:
    """What `predict_array` gives for the pairs of the schedule in order."""
    values = np.asarray(make_cells(7).X)
    return np.concatenate([model.predict_array(values[: r.n_controls], r.label) for r in REQUESTS])


def test_pairs_are_numbered_perturbation_by_perturbation(perturbations: list[Perturbation]) -> None:
    schedule = Schedule(perturbations, 7)
    assert schedule.counts.tolist() == [3, 7, 1]
    assert schedule.n_rows == 11
    assert [schedule.perturbation_of(row) for row in range(11)] == [0] * 3 + [1] * 7 + [2]


@settings(max_examples=30, deadline=None)
@given(batch_size=st.integers(1, 13), first_row=st.integers(0, 10))
def test_segments_cover_every_pair_from_any_row_on_with_the_values_of_the_whole_run(
    model: sgr.Predictor,
    controls: ControlCells,
    perturbations: list[Perturbation],
    expected: np.ndarray,
    batch_size: int,
    first_row: int,
) -> None:
    schedule = Schedule(perturbations, 7)
    runner = BatchRunner(model.session, model.panel, controls, batch_size)
    whole = list(runner.segments(schedule))
    pairs = [(s.perturbation, s.first_cell + i) for s in whole for i in range(len(s.predicted))]
    assert pairs == [(0, 0), (0, 1), (0, 2), *((1, cell) for cell in range(7)), (2, 0)]
    rows = np.concatenate([segment.predicted for segment in whole])
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=2e-5)

    rest = list(runner.segments(schedule, first_row))
    np.testing.assert_array_equal(np.concatenate([segment.predicted for segment in rest]), rows[first_row:])
    begin = int(schedule.starts[rest[0].perturbation]) + rest[0].first_cell
    assert begin == first_row


def test_batches_are_full_across_perturbations_but_for_the_last(
    model: sgr.Predictor, controls: ControlCells, perturbations: list[Perturbation]
) -> None:
    sizes: list[int] = []

    class CountingSession:
        provider, precision, fixed_batches = "cpu", "fp32", False

        def run(self, values: np.ndarray, pert_flags: np.ndarray, gene_index: np.ndarray) -> np.ndarray:
            sizes.append(len(values))
            return model.session.run(values, pert_flags, gene_index)

    list(BatchRunner(CountingSession(), model.panel, controls, 4).segments(Schedule(perturbations, 7)))
    assert sizes == [4, 4, 3]


def test_short_batches_are_padded_where_batches_have_one_size(
    model: sgr.Predictor, controls: ControlCells, perturbations: list[Perturbation], expected: np.ndarray
) -> None:
    sizes: set[int] = set()

    class FixedSession:
        provider, precision, fixed_batches = "cuda", "fp32", True

        def run(self, values: np.ndarray, pert_flags: np.ndarray, gene_index: np.ndarray) -> np.ndarray:
            sizes.add(len(values))
            return model.session.run(values, pert_flags, gene_index)

    segments = BatchRunner(FixedSession(), model.panel, controls, 4).segments(Schedule(perturbations, 7))
    rows = np.concatenate([segment.predicted for segment in segments])
    assert sizes == {4}
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=2e-5)
