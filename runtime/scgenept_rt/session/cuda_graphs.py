"""CUDA graphs: all kernels of a small batch, recorded once and launched together from then on.

A batch of one cell leaves a GPU waiting for the next launch between kernels. A recorded graph reads and writes the
addresses that it was recorded with, so its inputs and outputs are bound to places on the device that stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MOST_CELLS: Final = 4
"""The most cells of a batch that is recorded: from 8 on, kernels are so long that launching them takes no time."""
_MOST_FORMS: Final = 8
"""The most forms of batch that are recorded: each keeps its inputs and output on the device."""

_OUTPUT = "predicted"
_RUN_ENTRY = "gpu_graph_id"
_NOT_RECORDED = "-1"


def cuda_graph_options() -> dict[str, str]:
    """Return what the CUDA provider has to be told, besides its other options, when a session is made."""
    return {"enable_cuda_graph": "1"}


class RecordedBatches:
    """Runs batches of one session, the small ones as recorded graphs. For the use of one thread, always the same."""

    def __init__(self, session: Any, device_type: str, device_id: int) -> None:
        """Record on a device, for a session made with `cuda_graph_options`.

        Parameters
        ----------
        session
            An `onnxruntime.InferenceSession` of a bundle's graph.
        device_type, device_id
            Where the session runs, as `onnxruntime.OrtValue` names it, such as ``"cuda"`` and 0.
        """
        self._session = session
        self._device = (device_type, device_id)
        self._batches: dict[tuple[Any, ...], _BoundBatch] = {}
        self._n_recorded = 0
        self._plainly = _run_options(_NOT_RECORDED)

    def run(self, feed: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Predict one batch: a graph's inputs by name; returns (n_cells, n_genes) float32, an array of its own."""
        form = tuple((name, array.shape, array.dtype.str) for name, array in feed.items())
        batch = self._batches.get(form)
        if batch is not None:
            return batch.run(feed)
        n_cells = len(feed["values"])
        if not 0 < n_cells <= MOST_CELLS or len(self._batches) == _MOST_FORMS:
            outputs: list[NDArray[np.float32]] = self._session.run([_OUTPUT], dict(feed), self._plainly)
            return outputs[0]
        # A number is not used again: what failed may have left a graph under it.
        self._n_recorded += 1
        batch = _BoundBatch(self._session, feed, self._device, graph_id=self._n_recorded)
        predicted = batch.run(feed)
        self._batches[form] = batch
        return predicted


class _BoundBatch:
    """One form of batch: its inputs and output on the device, and the number of its graph.

    ONNX Runtime records in the first run, after one that fills its caches of memory and plans, and replays from then
    on.
    """

    def __init__(
        self, session: Any, feed: Mapping[str, NDArray[Any]], device: tuple[str, int], *, graph_id: int
    ) -> None:
        from onnxruntime import OrtValue

        self._session = session
        self._binding = session.io_binding()
        self._inputs = {
            name: OrtValue.ortvalue_from_shape_and_type(array.shape, array.dtype.type, *device)
            for name, array in feed.items()
        }
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._output = OrtValue.ortvalue_from_shape_and_type(feed["values"].shape, np.float32, *device)
        self._binding.bind_ortvalue_output(_OUTPUT, self._output)
        self._options = _run_options(str(graph_id))
        self._on_device: dict[str, NDArray[Any]] = {}

    def run(self, feed: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        for name, value in self._inputs.items():
            # Each copy is a call that waits for the device: genes and flags are mostly those of the run before.
            if name not in self._on_device or not np.array_equal(self._on_device[name], feed[name]):
                self._on_device[name] = np.array(feed[name], order="C")
                value.update_inplace(self._on_device[name])
        self._session.run_with_iobinding(self._binding, self._options)
        return np.array(self._output.numpy())  # the next run writes over the output


def _run_options(graph_id: str) -> Any:
    from onnxruntime import RunOptions

    options = RunOptions()
    options.add_run_config_entry(_RUN_ENTRY, graph_id)
    return options
