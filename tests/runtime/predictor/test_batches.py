"""The batch loop: which rows come out, what runs at the same time, and that nothing is left running.

Who waits for whom is arranged with events, never with times.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest

import scgenept_rt as sgr
from scgenept_rt.errors import DeviceMemoryError, InferenceError, NonFinitePredictionError
from scgenept_rt.expression.stored_rows import StoredRows
from scgenept_rt.perturbation import PerturbationRequest
from scgenept_rt.predictor.batches import THREAD_NAME

MakeCells = Callable[..., anndata.AnnData]
Rows = Iterator[sgr.PredictedRows]

N_CELLS, BATCH = 7, 4
REQUESTS = [PerturbationRequest("YFU19", 3), PerturbationRequest("ctrl"), PerturbationRequest("YFU19+EKKN10", 1)]
COUNTS = [3, 7, 1]


class StandIn:
    """A session whose rows depend on cell and perturbation alone; `during` is called in each run with its number."""

    provider, precision = "cpu", "fp32"

    def __init__(self, during: Callable[[int], None] | None = None, *, fixed_batches: bool = False) -> None:
        self.during, self.fixed_batches = during, fixed_batches
        self.batches: list[tuple[np.ndarray, np.ndarray]] = []
        self.threads: set[int] = set()
        self.n_ended = 0

    def run(self, values: np.ndarray, pert_flags: np.ndarray, _: np.ndarray) -> np.ndarray:
        assert self.n_ended == len(self.batches), "two batches run at once"
        given = values.copy(), pert_flags.copy()
        self.batches.append(given)
        self.threads.add(threading.get_ident())
        try:
            if self.during is not None:
                self.during(len(self.batches))
            # The caller fills the next batch meanwhile: this one must be as it was given.
            np.testing.assert_array_equal(values, given[0])
            np.testing.assert_array_equal(pert_flags, given[1])
            return self.network(values, pert_flags)
        finally:
            self.n_ended += 1

    def network(self, values: np.ndarray, pert_flags: np.ndarray) -> np.ndarray:
        return (3 * values + 100 * pert_flags).astype(np.float32)

    @property
    def sizes(self) -> list[int]:
        return [len(values) for values, _ in self.batches]


def network_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(THREAD_NAME)]


def wait(event: threading.Event) -> None:
    assert event.wait(timeout=60), "nobody set the event"


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert network_threads() == []


@pytest.fixture
def predictor_of(bundle: Path) -> Callable[[Any], sgr.Predictor]:
    return lambda session: sgr.Predictor(sgr.Bundle.open(bundle), session)


@pytest.fixture
def rows_of(predictor_of: Callable[[Any], sgr.Predictor], make_cells: MakeCells) -> Callable[..., Rows]:
    """Return a function that predicts `REQUESTS` as cells with a session."""

    def rows(session: Any, batch_size: int = BATCH, n_cells: int = N_CELLS) -> Rows:
        return predictor_of(session).iter_predict(
            make_cells(n_cells), REQUESTS, aggregate="cells", batch_size=batch_size
        )

    return rows


@pytest.fixture(scope="module")
def expected(model: sgr.Predictor, make_cells: MakeCells) -> np.ndarray:
    """What the stand-in gives for the pairs of `REQUESTS`, in order."""
    values, (parsed, _) = np.asarray(make_cells(N_CELLS).X), model.parse(REQUESTS)
    rows = []
    for perturbation, count in zip(parsed, COUNTS, strict=True):
        flags = np.zeros((count, values.shape[1]), dtype=np.int64)
        flags[:, list(perturbation.columns)] = 1
        rows.append(StandIn().network(values[:count], flags))
    return np.concatenate(rows)


# --- what comes out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fixed_batches", [False, True])
@pytest.mark.parametrize("size", [1, 4, 50])
def test_rows_are_those_of_the_pairs_in_order(
    rows_of: Callable[..., Rows], expected: np.ndarray, size: int, fixed_batches: bool
) -> None:
    session = StandIn(fixed_batches=fixed_batches)
    found = list(rows_of(session, size))
    np.testing.assert_array_equal(np.concatenate([rows.X for rows in found]), expected)
    pairs = [(rows.perturbation.label, rows.first_cell + row) for rows in found for row in range(len(rows.X))]
    labels = [request.label for request in REQUESTS]
    assert pairs == [(label, cell) for label, count in zip(labels, COUNTS, strict=True) for cell in range(count)]
    assert threading.get_ident() not in session.threads
    if fixed_batches:
        assert len(set(session.sizes)) == 1
    else:  # full across perturbations, but for the last
        assert session.sizes == [min(size, 11 - begin) for begin in range(0, 11, size)]


def test_short_batches_are_padded_but_none_is_larger_than_the_run_needs(rows_of: Callable[..., Rows]) -> None:
    session = StandIn(fixed_batches=True)
    list(rows_of(session))
    values, flags = session.batches[-1]
    assert len(values) == BATCH
    assert not values[3:].any()
    assert not flags[3:].any()
    list(rows_of(session, 64))
    assert session.sizes[-1] == 16


# --- what happens at the same time ------------------------------------------------------------------------------------


def test_next_batch_is_filled_by_the_caller_while_one_runs(
    rows_of: Callable[..., Rows], expected: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled, callers, dense = threading.Semaphore(0), set(), StoredRows.dense

    def watched(self: StoredRows, begin: int, end: int) -> np.ndarray:
        callers.add(threading.get_ident())
        found = dense(self, begin, end)
        filled.release()
        return found

    def during(number: int) -> None:
        # Batch 1 has two perturbations and batch 2 one: the first does not end before the second is filled.
        for _ in range(3 if number == 1 else 0):
            assert filled.acquire(timeout=60), "nothing was filled meanwhile"

    monkeypatch.setattr(StoredRows, "dense", watched)
    np.testing.assert_array_equal(np.concatenate([rows.X for rows in rows_of(StandIn(during))]), expected)
    assert callers == {threading.get_ident()}


def test_next_batch_runs_while_the_caller_handles_one_and_no_more_than_that(rows_of: Callable[..., Rows]) -> None:
    second_ran = threading.Event()
    session = StandIn(lambda number: second_ran.set() if number == 2 else None)
    rows = rows_of(session)
    next(rows)
    wait(second_ran)
    assert len(session.batches) == 2
    assert len(list(rows)) == 4
    assert len(session.batches) == 3


# --- errors -----------------------------------------------------------------------------------------------------------


def test_error_of_a_batch_comes_after_the_rows_before_it_and_ends_the_run(rows_of: Callable[..., Rows]) -> None:
    def fail(number: int) -> None:
        if number == 2:
            raise InferenceError("the machine is on fire")

    session, seen = StandIn(fail), []
    with pytest.raises(InferenceError, match="on fire"):
        seen.extend(len(rows.X) for rows in rows_of(session))
    assert sum(seen) == BATCH
    assert len(session.batches) == 2


def test_after_running_out_of_memory_all_batches_run_in_parts(
    rows_of: Callable[..., Rows], expected: np.ndarray
) -> None:
    def fail(number: int) -> None:
        if session.sizes[-1] > most:
            raise DeviceMemoryError("failed to allocate memory")

    session, most = StandIn(fail), 2
    np.testing.assert_array_equal(np.concatenate([rows.X for rows in rows_of(session)]), expected)
    assert session.sizes == [4, 2, 2, 2, 2, 2, 1]
    session, most = StandIn(fail), 0
    with pytest.raises(DeviceMemoryError):
        list(rows_of(session))
    assert session.sizes == [4, 2, 1]


def test_prediction_that_is_not_finite_names_its_cell_and_gene(
    rows_of: Callable[..., Rows], model: sgr.Predictor
) -> None:
    class Spoiled(StandIn):
        def network(self, values: np.ndarray, pert_flags: np.ndarray) -> np.ndarray:
            predicted = super().network(values, pert_flags)
            if len(self.batches) == 2:
                predicted[2, 5] = np.inf  # row 6 of the run: cell 3 of its second perturbation
            return predicted

    seen = []
    with pytest.raises(NonFinitePredictionError, match=f"gene {model.gene_names[5]} for cell cell3 under ctrl is inf"):
        seen.extend(len(rows.X) for rows in rows_of(Spoiled()))
    assert sum(seen) == BATCH


# --- leaving early ----------------------------------------------------------------------------------------------------


def test_closing_waits_for_the_batch_that_runs_and_begins_no_other(rows_of: Callable[..., Rows]) -> None:
    second_began, closing = threading.Event(), threading.Event()

    def during(number: int) -> None:
        if number == 2:
            second_began.set()
            wait(closing)
            time.sleep(0.05)  # a close that did not wait would be over by now

    session = StandIn(during)
    rows = rows_of(session)
    next(rows)
    wait(second_began)
    closing.set()
    rows.close()  # type: ignore[attr-defined]
    assert (len(session.batches), session.n_ended) == (2, 2)


@pytest.mark.parametrize(("error", "max_error"), [(ValueError, None), (KeyboardInterrupt, 1e-9)])
def test_error_of_the_caller_stops_the_run_before_it_is_raised(
    predictor_of: Callable[[Any], sgr.Predictor],
    make_cells: MakeCells,
    tmp_path: Path,
    error: type[BaseException],
    max_error: float | None,
) -> None:
    began = threading.Event()

    def during(number: int) -> None:
        if number == 2:
            began.set()
            time.sleep(0.05)

    def progress(done: int, total: int) -> None:
        if done:
            wait(began)
            raise error

    session, out = StandIn(during), tmp_path / "out.h5ad"
    options = {"batch_size": BATCH, "max_error": max_error, "progress": progress}
    with pytest.raises(error):
        predictor_of(session).predict_file(make_cells(40), out, ["YFU19", "EKKN10"], **options)
    assert network_threads() == []
    assert (len(session.batches), session.n_ended) == (2, 2)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals are sent to one thread on POSIX alone")
def test_interrupt_from_the_keyboard_ends_with_the_batch_that_runs(rows_of: Callable[..., Rows]) -> None:
    caller = threading.get_ident()
    session = StandIn(lambda number: signal.pthread_kill(caller, signal.SIGINT) if number == 2 else None)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(rows_of(session, n_cells=40))
    finally:
        signal.signal(signal.SIGINT, before)
    assert (len(session.batches), session.n_ended) == (2, 2)
