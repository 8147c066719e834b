"""Recorded batches: on ONNX Runtime's CPU provider, which has no graphs to record but binds and runs the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

import scgenept_rt as sgr
from scgenept_rt.bundle import Tolerance
from scgenept_rt.errors import ArgumentError
from scgenept_rt.session.cuda_graphs import RecordedBatches
from scgenept_rt.session.graph_io import Feed

SHAPES = ((1, 24), (3, 24), (1, 7))
TOLERANCE = Tolerance(atol=1e-6, rtol=0)


class WatchedSession:
    """A session that notes how it is run: plainly, or bound and under which number."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.runs: list[str] = []

    def run(self, outputs: list[str], feed: Feed, options: Any) -> Any:
        assert options.get_run_config_entry("gpu_graph_id") == "-1"
        self.runs.append("plain")
        return self._session.run(outputs, feed, options)

    def io_binding(self) -> Any:
        return self._session.io_binding()

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.runs.append(options.get_run_config_entry("gpu_graph_id"))
        self._session.run_with_iobinding(binding, options)


@pytest.fixture
def session(graph: onnxruntime.InferenceSession) -> WatchedSession:
    return WatchedSession(graph)


@pytest.fixture
def recorded(session: WatchedSession) -> RecordedBatches:
    batches = RecordedBatches(session, "cpu", 0, SHAPES, TOLERANCE)
    session.runs.clear()
    return batches


def feed(n_cells: int, n_genes: int = 24, seed: int = 0) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return {
        "values": rng.random((n_cells, n_genes), dtype=np.float32),
        "pert_flags": rng.integers(0, 2, (n_cells, n_genes)),
        "gene_index": rng.permutation(24)[:n_genes],
    }


def test_records_each_shape_once_after_two_plain_runs(session: WatchedSession) -> None:
    RecordedBatches(session, "cpu", 0, [*SHAPES, SHAPES[0]], TOLERANCE)
    assert session.runs == [run for number in "123" for run in ("plain", "plain", number, number)]


def test_gives_what_the_graph_gives_in_any_order_of_shapes_and_inputs(
    recorded: RecordedBatches, session: WatchedSession, graph: onnxruntime.InferenceSession
) -> None:
    order = [(1, 24), (1, 24), (3, 24), (1, 24), (1, 7), (6, 24), (3, 24), (1, 7), (2, 24), (1, 24)]
    inputs = [feed(*shape, seed=seed) for seed, shape in enumerate(order)]
    # Views, of which nothing but the values themselves may matter.
    inputs[1]["values"] = np.asfortranarray(np.repeat(inputs[1]["values"], 2, axis=0))[::2]
    predicted = [recorded.run(each) for each in inputs]  # all kept: a run must not write over an earlier result
    for each, given in zip(predicted, inputs, strict=True):
        assert each.dtype == np.float32
        np.testing.assert_allclose(each, graph.run(None, given)[0], rtol=0, atol=1e-6)
    assert session.runs == ["1", "1", "2", "1", "3", "plain", "2", "3", "plain", "1"]


@pytest.mark.parametrize("changed", ["values", "pert_flags", "gene_index"])
def test_one_changed_input_changes_the_prediction(
    recorded: RecordedBatches, graph: onnxruntime.InferenceSession, changed: str
) -> None:
    first, other = feed(2), feed(2, seed=1)
    second = first | {changed: other[changed]}
    before = recorded.run(first)
    after = recorded.run(second)
    assert np.abs(after - before).max() > 1e-3
    np.testing.assert_allclose(after, graph.run(None, second)[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(recorded.run(first), before, rtol=0, atol=1e-6)


def test_inputs_may_be_changed_in_place_between_runs(
    recorded: RecordedBatches, graph: onnxruntime.InferenceSession
) -> None:
    inputs = feed(1)
    recorded.run(inputs)
    inputs["pert_flags"][0] = 1 - inputs["pert_flags"][0]
    np.testing.assert_allclose(recorded.run(inputs), graph.run(None, inputs)[0], rtol=0, atol=1e-6)


def test_inputs_of_other_forms_run_plainly_and_what_does_not_fit_is_an_error(
    recorded: RecordedBatches, session: WatchedSession, graph: onnxruntime.InferenceSession
) -> None:
    good = feed(1)
    for wrong in ({"pert_flags": np.zeros((1, 9), dtype=np.int64)}, {"values": good["values"].astype(np.float64)}):
        with pytest.raises(Exception, match=r"broadcast|type"):
            recorded.run(good | wrong)
    assert session.runs == ["plain", "plain"]
    with pytest.raises(Exception, match="indices"):
        recorded.run(good | {"gene_index": np.full(24, 10**6)})
    np.testing.assert_allclose(recorded.run(good), graph.run(None, good)[0], rtol=0, atol=1e-6)


def test_a_graph_that_gives_something_else_is_not_used(session: WatchedSession, graph: Any) -> None:
    def stale(binding: Any, options: Any) -> None:  # a replay that does not see the second run's inputs
        if "1" not in session.runs:
            graph.run_with_iobinding(binding, options)
        session.runs.append("1")

    session.run_with_iobinding = stale  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match=r"a recorded batch of 1 x 24 values .* differ from those of a plain one"):
        RecordedBatches(session, "cpu", 0, SHAPES, TOLERANCE)


def test_only_the_provider_cuda_records(bundle: Path) -> None:
    with pytest.raises(ArgumentError, match="cuda_graphs is for the provider cuda, not for cpu"):
        sgr.load(bundle, provider="cpu", cuda_graphs=True)
