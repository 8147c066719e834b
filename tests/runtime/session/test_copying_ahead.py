"""Batches that are copied while others run: on ONNX Runtime's CPU provider, which binds and copies the same way.

Who is where is arranged with events: a session that stands still within a run until it is let go.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from scgenept_rt.session.copying_ahead import CopyingAhead
from scgenept_rt.session.graph_io import Feed

N_GENES = 24


class WatchedSession:
    """A session that notes what is done to it and from which thread, and whose runs can be held up."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.done: list[tuple[str, str]] = []
        self.changed = threading.Condition()
        self.permits: threading.Semaphore | None = None

    def note(self, what: str) -> None:
        with self.changed:
            self.done.append((what, threading.current_thread().name.rsplit("_", 1)[0]))
            self.changed.notify_all()

    def wait_for(self, what: str, times: int = 1) -> None:
        def happened() -> bool:
            return [name for name, _ in self.done].count(what) >= times

        with self.changed:
            assert self.changed.wait_for(happened, timeout=60), f"{what} did not happen: {self.done}"

    def hold(self) -> None:
        """Let every run from now on wait for a call of `let_go`."""
        self.permits = threading.Semaphore(0)

    def let_go(self, n_runs: int = 1) -> None:
        assert self.permits is not None
        self.permits.release(n_runs)

    def stand_still(self) -> None:
        assert self.permits is None or self.permits.acquire(timeout=60), "nobody let this run go on"

    def run(self, outputs: list[str], feed: Feed) -> Any:
        self.note("run as it comes")
        self.stand_still()
        found = self._session.run(outputs, feed)
        self.note("ended")
        return found

    def io_binding(self) -> Any:
        self.note("bound")
        return self._session.io_binding()

    def run_with_iobinding(self, binding: Any) -> None:
        self.note("run where it is")
        self.stand_still()
        self._session.run_with_iobinding(binding)
        self.note("ended")


@pytest.fixture
def session(graph: onnxruntime.InferenceSession) -> WatchedSession:
    return WatchedSession(graph)


@pytest.fixture
def ahead(session: WatchedSession) -> Iterator[CopyingAhead]:
    with ThreadPoolExecutor(1, thread_name_prefix="running") as thread:
        yield CopyingAhead(session, thread, "cpu", 0)


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8, thread_name_prefix="caller") as pool:
        yield pool


def feed(n_cells: int, seed: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return {
        "values": rng.random((n_cells, N_GENES), dtype=np.float32),
        "pert_flags": rng.integers(0, 2, (n_cells, N_GENES)),
        "gene_index": rng.permutation(N_GENES),
    }


def expected(graph: onnxruntime.InferenceSession, batch: Feed) -> NDArray[np.float32]:
    return np.asarray(graph.run(["predicted"], dict(batch))[0])


def test_a_batch_alone_is_run_as_it_comes(ahead: CopyingAhead, session: WatchedSession, graph: Any) -> None:
    for seed in range(3):
        batch = feed(2, seed)
        np.testing.assert_array_equal(ahead.run(batch), expected(graph, batch))
    assert [name for name, _ in session.done] == ["run as it comes", "ended"] * 3


def test_the_second_is_copied_while_the_first_runs(
    ahead: CopyingAhead, session: WatchedSession, graph: Any, callers: ThreadPoolExecutor
) -> None:
    session.hold()
    first = callers.submit(ahead.run, feed(2, 1))
    session.wait_for("run as it comes")
    second = callers.submit(ahead.run, feed(3, 2))
    session.wait_for("bound")  # while the first stands still
    assert not first.done()
    session.let_go(2)
    np.testing.assert_array_equal(first.result(60), expected(graph, feed(2, 1)))
    np.testing.assert_array_equal(second.result(60), expected(graph, feed(3, 2)))
    assert session.done == [
        ("run as it comes", "running"),
        ("bound", "scgenept-rt-copy"),
        ("ended", "running"),
        ("run where it is", "running"),
        ("ended", "running"),
    ]


def test_what_came_out_is_copied_back_while_the_next_one_runs(
    ahead: CopyingAhead, session: WatchedSession, graph: Any, callers: ThreadPoolExecutor
) -> None:
    session.hold()
    first = callers.submit(ahead.run, feed(1, 0))
    session.wait_for("run as it comes")
    second = callers.submit(ahead.run, feed(2, 1))
    session.wait_for("bound")
    session.let_go()
    np.testing.assert_array_equal(first.result(60), expected(graph, feed(1, 0)))
    session.wait_for("run where it is")
    third = callers.submit(ahead.run, feed(3, 2))
    session.wait_for("bound", times=2)  # while the second stands still
    session.let_go()
    session.wait_for("run where it is", times=2)
    np.testing.assert_array_equal(second.result(60), expected(graph, feed(2, 1)))  # while the third stands still
    assert not third.done()
    session.let_go()
    np.testing.assert_array_equal(third.result(60), expected(graph, feed(3, 2)))


def test_no_more_than_one_waits_on_the_device(
    ahead: CopyingAhead, session: WatchedSession, graph: Any, callers: ThreadPoolExecutor
) -> None:
    session.hold()
    batches = [feed(1 + seed % 3, seed) for seed in range(4)]
    waiting: list[Future[NDArray[np.float32]]] = []
    for batch, sign in zip(batches[:2], ("run as it comes", "bound"), strict=True):
        waiting.append(callers.submit(ahead.run, batch))
        session.wait_for(sign)
    for batch in batches[2:]:
        waiting.append(callers.submit(ahead.run, batch))
        while ahead.n_inside < len(waiting):
            threading.Event().wait(0.001)
    session.let_go(4)
    for batch, future in zip(batches, waiting, strict=True):
        np.testing.assert_array_equal(future.result(60), expected(graph, batch))
    assert [name for name, _ in session.done if name != "ended"] == [
        "run as it comes",
        "bound",
        *["run where it is", "run as it comes", "run as it comes"],
    ]


def test_batches_of_many_threads_come_back_to_who_gave_them(
    ahead: CopyingAhead, session: WatchedSession, graph: Any, callers: ThreadPoolExecutor
) -> None:
    batches = [feed(1 + seed % 4, seed) for seed in range(60)]
    for batch, predicted in zip(batches, callers.map(ahead.run, batches), strict=True):
        np.testing.assert_array_equal(predicted, expected(graph, batch))
    assert {thread for name, thread in session.done if name != "bound"} == {"running"}


def test_what_is_given_may_change_once_it_came_back(ahead: CopyingAhead, callers: ThreadPoolExecutor) -> None:
    def repeatedly(seed: int) -> None:
        batch, before = feed(2, seed), feed(2, seed)
        first = ahead.run(batch)
        kept = first.copy()
        batch["values"] += 1
        second = ahead.run(batch)
        assert not np.array_equal(second, kept)
        np.testing.assert_array_equal(first, kept)  # an array of its own
        np.testing.assert_array_equal(batch["gene_index"], before["gene_index"])

    list(callers.map(repeatedly, range(16)))


@pytest.mark.parametrize("failing", ["io_binding", "run_with_iobinding"])
def test_an_error_reaches_its_caller_and_the_next_batch_runs(
    ahead: CopyingAhead,
    session: WatchedSession,
    graph: Any,
    callers: ThreadPoolExecutor,
    failing: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: Any) -> None:
        session.note("failed")
        raise RuntimeError("Failed to allocate memory for requested buffer of size 1")

    monkeypatch.setattr(session, failing, fail)
    session.hold()
    first = callers.submit(ahead.run, feed(2, 1))
    session.wait_for("run as it comes")
    second = callers.submit(ahead.run, feed(2, 2))
    session.wait_for("failed" if failing == "io_binding" else "bound")
    session.let_go(3)
    with pytest.raises(RuntimeError, match="Failed to allocate"):
        second.result(60)
    np.testing.assert_array_equal(first.result(60), expected(graph, feed(2, 1)))
    np.testing.assert_array_equal(ahead.run(feed(2, 3)), expected(graph, feed(2, 3)))
    assert session.done[-2][0] == "run as it comes"
