"""Batches run one ahead in a thread of their own. Who waits for whom is arranged with events, never with times."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anndata
import numpy as np
import pytest

import scgenept_rt as sgr
from scgenept_rt.errors import InferenceFailedError, NonFinitePredictionError
from scgenept_rt.expression import ControlCells, read_control_cells
from scgenept_rt.perturbation import Perturbation, PerturbationRequest
from scgenept_rt.predictor.aggregation import MIN_CONTROLS, PredictedRows, means_to_tolerance
from scgenept_rt.predictor.moments import RunningMoments
from scgenept_rt.predictor.pipeline import THREAD_NAME, BatchPipeline
from scgenept_rt.predictor.schedule import BatchRunner, Schedule, Segment

MakeCells = Callable[..., anndata.AnnData]
N_CELLS, BATCH = 7, 4
REQUESTS = [PerturbationRequest("YFU19", 3), PerturbationRequest("ctrl"), PerturbationRequest("YFU19+EKKN10", 1)]


def network(values: np.ndarray, pert_flags: np.ndarray) -> np.ndarray:
    """A stand-in whose rows tell which cell and perturbation they are of, and how large their batch was."""
    return (3 * values + 100 * pert_flags + 1000 * len(values)).astype(np.float32)


class RecordingSession:
    """Keeps what it is called with and from where; `during`, if given, is called within each run with its number."""

    provider, precision = "cpu", "fp32"

    def __init__(
        self,
        during: Callable[[int], None] | None = None,
        *,
        fixed_batches: bool = False,
    ) -> None:
        self.fixed_batches = fixed_batches
        self.during = during
        self.threads: list[int] = []
        self.batches: list[tuple[np.ndarray, np.ndarray]] = []
        self.addresses: set[int] = set()
        self.n_ended = 0
        self._counting = threading.Lock()
        self._room = threading.Semaphore(1)

    def run(self, values: np.ndarray, pert_flags: np.ndarray, _: np.ndarray) -> np.ndarray:
        assert self._room.acquire(blocking=False), "two batches run at once"
        try:
            given = values.copy(), pert_flags.copy()
            with self._counting:
                self.threads.append(threading.get_ident())
                self.batches.append(given)
                number = len(self.batches)
            self.addresses.add(values.__array_interface__["data"][0])
            if self.during is not None:
                self.during(number)
            # The caller fills other buffers meanwhile: these must be as they were given.
            np.testing.assert_array_equal(values, given[0])
            np.testing.assert_array_equal(pert_flags, given[1])
            return network(values, pert_flags)
        finally:
            with self._counting:
                self.n_ended += 1
            self._room.release()


class WatchedCells:
    """Control cells that tell how often rows of them were asked for."""

    def __init__(self, controls: ControlCells) -> None:
        self._controls = controls
        self.n_dense = 0
        self.threads: set[int] = set()
        self.asked = threading.Condition()

    def dense(self, begin: int, end: int, out: np.ndarray) -> np.ndarray:
        with self.asked:
            self.n_dense += 1
            self.threads.add(threading.get_ident())
            self.asked.notify_all()
        return self._controls.dense(begin, end, out=out)

    def wait_for(self, n_dense: int) -> None:
        with self.asked:
            assert self.asked.wait_for(lambda: self.n_dense >= n_dense, timeout=60), "nothing was prepared meanwhile"

    def __getattr__(self, name: str) -> object:
        return getattr(self._controls, name)


def workers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


def wait(event: threading.Event) -> None:
    assert event.wait(timeout=60), "nobody set the event"


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    assert workers() == []
    yield
    assert workers() == []


@pytest.fixture(scope="module")
def controls(model: sgr.Predictor, make_cells: MakeCells) -> ControlCells:
    return read_control_cells(make_cells(N_CELLS), model.panel)


@pytest.fixture(scope="module")
def schedule(model: sgr.Predictor) -> Schedule:
    return Schedule(model.parse(REQUESTS)[0], N_CELLS)


@pytest.fixture
def segments_of(
    model: sgr.Predictor, controls: ControlCells, schedule: Schedule
) -> Callable[[RecordingSession], Iterator[Segment]]:
    def segments(session: RecordingSession) -> Iterator[Segment]:
        return BatchRunner(session, model.panel, controls, BATCH).segments(schedule)

    return segments


def flags_of(perturbation: Perturbation, n_genes: int) -> np.ndarray:
    flags = np.zeros(n_genes, dtype=np.int64)
    flags[list(perturbation.columns)] = 1
    return flags


def batches_one_by_one(schedule: Schedule, controls: ControlCells, size: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The batches of a schedule as they were before anything ran beside anything else."""
    values = np.concatenate([controls.dense(0, count) for count in schedule.counts])
    flags = np.concatenate(
        [
            np.tile(flags_of(perturbation, controls.n_genes), (count, 1))
            for perturbation, count in zip(schedule.perturbations, schedule.counts, strict=True)
        ]
    )
    return [(values[begin : begin + size], flags[begin : begin + size]) for begin in range(0, len(values), size)]


# --- what comes out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4, 10, 11, 50])
def test_batches_and_rows_are_those_of_one_batch_after_the_other(
    model: sgr.Predictor, controls: ControlCells, schedule: Schedule, size: int
) -> None:
    session = RecordingSession()
    found = list(BatchRunner(session, model.panel, controls, size).segments(schedule))
    expected = batches_one_by_one(schedule, controls, size)
    assert len(session.batches) == len(expected)
    for (values, flags), (expected_values, expected_flags) in zip(session.batches, expected, strict=True):
        np.testing.assert_array_equal(values, expected_values)
        np.testing.assert_array_equal(flags, expected_flags)
    rows = np.concatenate([network(*batch) for batch in expected])
    np.testing.assert_array_equal(np.concatenate([segment.predicted for segment in found]), rows)


def test_rows_of_the_network_are_bit_for_bit_those_of_one_batch_after_the_other(
    model: sgr.Predictor, controls: ControlCells, schedule: Schedule
) -> None:
    found = BatchRunner(model.session, model.panel, controls, BATCH).segments(schedule)
    genes = np.arange(len(model.panel))
    expected = [model.session.run(*batch, genes) for batch in batches_one_by_one(schedule, controls, BATCH)]
    np.testing.assert_array_equal(np.concatenate([s.predicted for s in found]), np.concatenate(expected))


def test_padding_of_a_short_batch_does_not_depend_on_the_batches_before_it(
    model: sgr.Predictor, controls: ControlCells, schedule: Schedule
) -> None:
    for first_row in (0, 8):
        session = RecordingSession(fixed_batches=True)
        list(BatchRunner(session, model.panel, controls, BATCH).segments(schedule, first_row))
        values, flags = session.batches[-1]
        assert len(values) == BATCH
        assert not values[3:].any()
        assert not flags[3:].any()


def test_every_batch_runs_in_one_thread_that_is_not_the_callers_and_in_two_sets_of_buffers(
    segments_of: Callable[[RecordingSession], Iterator[Segment]],
) -> None:
    session = RecordingSession()
    list(segments_of(session))
    assert len(session.threads) == 3
    assert len(set(session.threads)) == 1
    assert session.threads[0] != threading.get_ident()
    assert len(session.addresses) == 2


# --- what happens at the same time ------------------------------------------------------------------------------------


def test_next_batch_is_prepared_by_the_caller_while_one_runs(
    model: sgr.Predictor, controls: ControlCells, schedule: Schedule
) -> None:
    cells = WatchedCells(controls)
    # Batch 1 has two pieces and batch 2 one: the first may not end before the second is prepared.
    session = RecordingSession(lambda number: cells.wait_for(3) if number == 1 else None)
    list(BatchRunner(session, model.panel, cells, BATCH).segments(schedule))  # type: ignore[arg-type]
    assert cells.threads == {threading.get_ident()}


def test_next_batch_runs_while_the_caller_reads_one_and_no_more_than_that(
    segments_of: Callable[[RecordingSession], Iterator[Segment]],
) -> None:
    second_ran = threading.Event()
    session = RecordingSession(lambda number: second_ran.set() if number == 2 else None)
    segments = segments_of(session)
    next(segments)
    wait(second_ran)
    assert len(session.batches) == 2
    assert len(list(segments)) == 4
    assert len(session.batches) == 3


# --- errors -----------------------------------------------------------------------------------------------------------


def test_error_of_a_batch_comes_after_the_rows_before_it_and_ends_the_run(
    segments_of: Callable[[RecordingSession], Iterator[Segment]],
) -> None:
    def fail(number: int) -> None:
        if number == 2:
            raise InferenceFailedError("cpu", BATCH, 24, "the machine is on fire")

    session, seen = RecordingSession(fail), []
    with pytest.raises(InferenceFailedError, match="on fire"):
        seen.extend(len(segment.predicted) for segment in segments_of(session))
    assert sum(seen) == BATCH
    assert len(session.batches) == 2


def test_memory_that_runs_out_is_met_in_the_same_thread_and_for_good(
    segments_of: Callable[[RecordingSession], Iterator[Segment]],
) -> None:
    def fail(number: int) -> None:
        if len(session.batches[-1][0]) > 2:
            raise InferenceFailedError("cpu", BATCH, 24, "failed to allocate memory")

    session = RecordingSession(fail)
    rows = np.concatenate([segment.predicted for segment in segments_of(session)])
    assert [len(values) for values, _ in session.batches] == [4, 2, 2, 2, 2, 2, 1]
    assert len(rows) == 11
    assert len(set(session.threads)) == 1


def test_prediction_that_is_not_finite_names_its_cell_and_gene(
    model: sgr.Predictor, controls: ControlCells, schedule: Schedule
) -> None:
    class SpoiledSession(RecordingSession):
        def run(self, values: np.ndarray, pert_flags: np.ndarray, gene_index: np.ndarray) -> np.ndarray:
            predicted = super().run(values, pert_flags, gene_index)
            if len(self.batches) == 2:
                predicted[2, 5] = np.inf  # row 6 of the schedule: cell 3 of its second perturbation
            return predicted

    segments, seen = BatchRunner(SpoiledSession(), model.panel, controls, BATCH).segments(schedule), []
    with pytest.raises(NonFinitePredictionError, match=f"gene {model.gene_names[5]} for cell cell3 under ctrl is inf"):
        seen.extend(len(segment.predicted) for segment in segments)
    assert sum(seen) == BATCH


def test_error_of_preparing_a_batch_waits_for_the_one_that_runs(
    model: sgr.Predictor, controls: ControlCells, schedule: Schedule
) -> None:
    reached = threading.Event()

    class VanishingCells(WatchedCells):
        def dense(self, begin: int, end: int, out: np.ndarray) -> np.ndarray:
            if self.n_dense == 2:
                reached.set()
                raise OSError("the file is gone")
            return super().dense(begin, end, out)

    session = RecordingSession(lambda _: wait(reached))
    with pytest.raises(OSError, match="the file is gone"):
        list(BatchRunner(session, model.panel, VanishingCells(controls), BATCH).segments(schedule))  # type: ignore[arg-type]
    assert session.n_ended == 1


# --- leaving early ----------------------------------------------------------------------------------------------------


def test_closing_waits_for_the_batch_that_runs_and_begins_no_other(
    segments_of: Callable[[RecordingSession], Iterator[Segment]],
) -> None:
    second_began, closing = threading.Event(), threading.Event()

    def during(number: int) -> None:
        if number == 2:
            second_began.set()
            wait(closing)
            time.sleep(0.05)  # a close that did not wait would be over by now

    session = RecordingSession(during)
    segments = segments_of(session)
    next(segments)
    wait(second_began)
    closing.set()
    segments.close()  # type: ignore[attr-defined]
    assert (len(session.batches), session.n_ended) == (2, 2)
    assert workers() == []


def test_generator_that_is_dropped_leaves_no_thread(
    segments_of: Callable[[RecordingSession], Iterator[Segment]],
) -> None:
    session = RecordingSession()
    segments = segments_of(session)
    next(segments)
    assert len(workers()) == 1
    del segments
    assert workers() == []
    assert session.n_ended == len(session.batches) <= 2


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("tolerance", [None, 1e-9])
def test_error_of_the_consumer_stops_the_run_before_it_is_raised(
    bundle: Path,
    make_cells: MakeCells,
    tmp_path: Path,
    error: type[BaseException],
    tolerance: float | None,
) -> None:
    began, calls = threading.Event(), []

    def during(number: int) -> None:
        if number == 2:
            began.set()
            time.sleep(0.05)

    session = RecordingSession(during)

    def progress(done: int, total: int) -> None:
        calls.append(threading.get_ident())
        wait(began)
        raise error

    cells = tmp_path / "cells.h5ad"
    make_cells(40).write_h5ad(cells)
    with pytest.raises(error):
        sgr.Predictor(sgr.Bundle.open(bundle), session).predict_file(
            cells,
            tmp_path / "out.h5ad",
            ["YFU19", "EKKN10"],
            batch_size=BATCH,
            tolerance=tolerance,
            progress=progress,
        )
    assert workers() == []
    assert (len(session.batches), session.n_ended) == (2, 2)
    assert calls == [threading.get_ident()]


def test_interrupt_from_the_keyboard_while_a_batch_runs_ends_with_that_batch(
    bundle: Path, make_cells: MakeCells
) -> None:
    if not hasattr(signal, "pthread_kill"):
        pytest.skip("signals are sent to one thread on POSIX alone")
    caller = threading.get_ident()

    def during(number: int) -> None:
        if number == 3:
            signal.pthread_kill(caller, signal.SIGINT)

    session = RecordingSession(during)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            sgr.Predictor(sgr.Bundle.open(bundle), session).predict(
                make_cells(40), ["YFU19", "EKKN10"], batch_size=BATCH
            )
    finally:
        signal.signal(signal.SIGINT, before)
    assert (len(session.batches), session.n_ended) == (3, 3)
    assert workers() == []


def test_rows_that_are_handed_out_may_be_abandoned(bundle: Path, make_cells: MakeCells) -> None:
    session = RecordingSession()
    rows = sgr.Predictor(sgr.Bundle.open(bundle), session).iter_predict(
        make_cells(40), ["YFU19", "EKKN10"], aggregate="cells", batch_size=BATCH
    )
    next(rows)
    rows.close()  # type: ignore[attr-defined]
    assert workers() == []
    assert session.n_ended == len(session.batches) <= 2


# --- means to a tolerance ---------------------------------------------------------------------------------------------


def means_one_by_one(
    schedule: Schedule, controls: ControlCells, size: int, tolerance: float
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[RunningMoments]]:
    """The batches and moments of a run that decides about each batch before it prepares the next one."""
    batches, results = [], []
    for perturbation, limit in zip(schedule.perturbations, schedule.counts, strict=True):
        moments = RunningMoments(controls.n_genes)
        while moments.n < limit and not (moments.n >= MIN_CONTROLS and moments.sem().max() <= tolerance):
            values = controls.dense(moments.n, min(moments.n + size, limit))
            batches.append((values, np.tile(flags_of(perturbation, controls.n_genes), (len(values), 1))))
            moments.add(network(*batches[-1]))
        results.append(moments)
    return batches, results


@pytest.fixture(scope="module")
def many(model: sgr.Predictor, make_cells: MakeCells) -> ControlCells:
    return read_control_cells(make_cells(60), model.panel)


@pytest.fixture(scope="module")
def panel_of_three(model: sgr.Predictor) -> Schedule:
    requests = [PerturbationRequest("YFU19"), PerturbationRequest("ctrl", 9), PerturbationRequest("EKKN10")]
    return Schedule(model.parse(requests)[0], 60)


# The network's spread brings the standard error below each of these after another number of cells; 1e9 at 32.
@pytest.mark.parametrize("tolerance", [1e-9, 0.7, 200.0, 1e9])
@pytest.mark.parametrize("size", [1, 10, 32, 100])
def test_means_to_a_tolerance_run_the_batches_that_are_needed_and_no_others(
    model: sgr.Predictor, many: ControlCells, panel_of_three: Schedule, size: int, tolerance: float
) -> None:
    session = RecordingSession()
    runner = BatchRunner(session, model.panel, many, size)
    rows = list(means_to_tolerance(runner, panel_of_three, many, tolerance))
    batches, expected = means_one_by_one(panel_of_three, many, size, tolerance)
    assert len(session.batches) == len(batches)
    for (values, flags), (expected_values, expected_flags) in zip(session.batches, batches, strict=True):
        np.testing.assert_array_equal(values, expected_values)
        np.testing.assert_array_equal(flags, expected_flags)
    assert [row.n_controls for row in rows] == [moments.n for moments in expected]
    for row, moments in zip(rows, expected, strict=True):
        np.testing.assert_array_equal(row.X[0], moments.mean.astype(np.float32))
        np.testing.assert_array_equal(row.layers["sem"][0], moments.sem().astype(np.float32))
    assert len(set(session.threads)) == 1
    assert len(session.addresses) <= 2


def test_means_to_a_tolerance_prepare_the_next_batch_while_one_runs(
    model: sgr.Predictor, many: ControlCells, panel_of_three: Schedule
) -> None:
    cells = WatchedCells(many)
    session = RecordingSession(lambda number: cells.wait_for(number + 1) if number < 13 else None)
    runner = BatchRunner(session, model.panel, cells, 10)  # type: ignore[arg-type]
    rows: list[PredictedRows] = list(means_to_tolerance(runner, panel_of_three, many, 1e-9))
    assert [row.n_controls for row in rows] == [60, 9, 60]
    assert len(session.batches) == 13
    assert cells.threads == {threading.get_ident()}


def test_first_batch_of_the_next_perturbation_runs_while_a_mean_is_handled(
    model: sgr.Predictor, many: ControlCells, panel_of_three: Schedule
) -> None:
    began = threading.Event()
    session = RecordingSession(lambda number: began.set() if number == 5 else None)
    means = means_to_tolerance(BatchRunner(session, model.panel, many, 10), panel_of_three, many, 1e9)
    next(means)  # of 40 cells
    wait(began)
    means.close()
    assert session.n_ended == len(session.batches) == 5


# --- the pipeline by itself -------------------------------------------------------------------------------------------


def test_batches_are_started_and_taken_in_turn() -> None:
    with BatchPipeline(RecordingSession(), 2, 3) as pipeline:
        with pytest.raises(RuntimeError, match="no batch was started"):
            pipeline.result()
        pipeline.start(1)
        with pytest.raises(RuntimeError, match="take a result first"):
            pipeline.start(1)
        assert pipeline.result().shape == (1, 3)
