"""CUDA graphs: all kernels of a small batch, recorded when a session is opened and launched together from then on.

With a batch of one cell a GPU waits for the next launch between kernels. A recorded graph reads and writes the
addresses that it was recorded with, so its inputs and outputs are bound to fixed places on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle import Tolerance
from scgenept_rt.providers import import_onnxruntime
from scgenept_rt.session.graph_io import OUTPUT, Feed

_CELLS: Final = (1, 2, 4)
"""Batch sizes that gain: from 8 cells on, kernels take so long that launching them costs nothing."""
_PLAIN_RUNS: Final = 2

_RUN_ENTRY = "gpu_graph_id"
_NOT_RECORDED = "-1"

Shape = tuple[int, int]
"""Cells and genes of a batch."""


def shapes_to_record(n_genes: int) -> tuple[Shape, ...]:
    """Return the batches of a number of genes that are worth recording."""
    return tuple((n_cells, n_genes) for n_cells in _CELLS)


def cuda_graph_options() -> dict[str, str]:
    """Return the options that the CUDA provider needs, besides its others, when a session is opened."""
    return {"enable_cuda_graph": "1"}


class RecordedBatches:
    """Runs batches of one session, those of some shapes as recorded graphs.

    To be made and used by one and the same thread. Everything is recorded at once: work on a GPU by other threads of
    the process can spoil a recording, and a recording their work.
    """

    def __init__(
        self, session: Any, device_type: str, device_id: int, shapes: Sequence[Shape], tolerance: Tolerance
    ) -> None:
        """Record, and compare outputs of the graphs with those of the session without them.

        Parameters
        ----------
        session
            An `onnxruntime.InferenceSession` of a bundle's graph, made with `cuda_graph_options`.
        device_type, device_id
            Where the session runs, as `onnxruntime.OrtValue` names it, such as ``"cuda"`` and 0.
        shapes
            Cells and genes of the batches to record.
        tolerance
            By how much the two may differ.

        Raises
        ------
        RuntimeError
            If they differ by more. ONNX Runtime's own errors are not changed.
        """
        self._session = session
        self._device = (device_type, device_id)
        self._tolerance = tolerance
        self._plainly = _run_options(_NOT_RECORDED)
        self._batches: dict[tuple[Any, ...], _BoundBatch] = {}
        for graph_id, shape in enumerate(dict.fromkeys(shapes), start=1):
            self._record(shape, graph_id)

    def run(self, feed: Feed) -> NDArray[np.float32]:
        """Predict one batch: a graph's inputs by name; returns (n_cells, n_genes) float32, an array of its own."""
        batch = self._batches.get(_form(feed))
        return self._run_plainly(feed) if batch is None else batch.run(feed)

    def _run_plainly(self, feed: Feed) -> NDArray[np.float32]:
        outputs: list[NDArray[np.float32]] = self._session.run([OUTPUT], dict(feed), self._plainly)
        return outputs[0]

    def _record(self, shape: Shape, graph_id: int) -> None:
        feeds = [_random_feed(shape, seed) for seed in range(_PLAIN_RUNS)]
        # Plainly first: planning and allocating, when a shape first runs, must not happen within a recording.
        expected = [self._run_plainly(feed) for feed in feeds]
        batch = _BoundBatch(self._session, feeds[0], self._device, graph_id)
        for feed, plain in zip(feeds, expected, strict=True):
            comparison = self._tolerance.compare(batch.run(feed), plain)
            if not comparison.passed:
                raise RuntimeError(
                    f"outputs of a recorded batch of {shape[0]} x {shape[1]:,} values (cells x genes) differ from "
                    f"those of a plain one by up to {comparison.max_difference:.2e}"
                )
        self._batches[_form(feeds[0])] = batch


class _BoundBatch:
    """One shape of batch: inputs and output on the device, and the number of its graph, recorded in the first run."""

    def __init__(self, session: Any, feed: Feed, device: tuple[str, int], graph_id: int) -> None:
        placed = import_onnxruntime().OrtValue.ortvalue_from_shape_and_type
        self._session = session
        self._binding = session.io_binding()
        self._inputs = {name: placed(array.shape, array.dtype.type, *device) for name, array in feed.items()}
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._output = placed(feed["values"].shape, np.float32, *device)
        self._binding.bind_ortvalue_output(OUTPUT, self._output)
        self._options = _run_options(str(graph_id))
        self._on_device: dict[str, NDArray[Any]] = {}

    def run(self, feed: Feed) -> NDArray[np.float32]:
        for name, value in self._inputs.items():
            # Each copy waits for the device: genes and flags are mostly those of the previous run.
            before = self._on_device.pop(name, None)
            if before is None or not np.array_equal(before, feed[name]):
                before = np.array(feed[name], order="C")
                value.update_inplace(before)
            self._on_device[name] = before  # only now: a copy can fail
        self._session.run_with_iobinding(self._binding, self._options)
        return np.array(self._output.numpy())  # the next run writes over the output


def _form(feed: Feed) -> tuple[Any, ...]:
    """Return what all batches that one graph can run have in common."""
    return tuple((name, array.shape, array.dtype.str) for name, array in feed.items())


def _random_feed(shape: Shape, seed: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return {
        "values": rng.random(shape, dtype=np.float32),
        "pert_flags": rng.integers(0, 2, shape),
        "gene_index": rng.permutation(shape[1]),
    }


def _run_options(graph_id: str) -> Any:
    options = import_onnxruntime().RunOptions()
    options.add_run_config_entry(_RUN_ENTRY, graph_id)
    return options
