"""Copying a batch to the GPU while the one before it runs, and what that gave back while the next one runs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.providers import import_onnxruntime
from scgenept_rt.providers.devices import make_device_current
from scgenept_rt.session.graph_io import OUTPUT, Feed


class CopyingAhead:
    """Runs the batches of a session in one thread; a batch that finds one other there is copied while that one runs.

    A batch that finds none has nothing to be copied beside, and one that finds two or more would only take memory on
    the GPU before its turn: those are run as they come. Safe to use from many threads at once.
    """

    def __init__(self, session: Any, thread: ThreadPoolExecutor, device_type: str, device_id: int) -> None:
        """Start the thread that copies.

        Parameters
        ----------
        session
            An `onnxruntime.InferenceSession` of a bundle's graph.
        thread
            Its one thread runs all batches.
        device_type, device_id
            Where the session runs, as `onnxruntime.OrtValue` names it, such as ``"cuda"`` and 0.
        """
        self._session = session
        self._thread = thread
        self._device = (device_type, device_id)
        # ONNX Runtime copies in the default stream of the GPU that is current in the calling thread. The network runs
        # in a stream of its own, which does not wait for that one.
        self._copying = ThreadPoolExecutor(
            1, thread_name_prefix="scgenept-rt-copy", initializer=make_device_current, initargs=(device_id,)
        )
        self._n_inside = 0
        self._counting = threading.Lock()

    @property
    def n_inside(self) -> int:
        """Batches that were given and have not come back."""
        return self._n_inside

    def run(self, feed: Feed) -> NDArray[np.float32]:
        """Predict one batch: a graph's inputs by name; returns (n_cells, n_genes) float32, an array of its own."""
        with self._counting:
            beside_one = self._n_inside == 1
            self._n_inside += 1
        try:
            if beside_one:
                return self._run_copied(feed)
            return self._thread.submit(self._run_as_it_comes, feed).result()
        finally:
            with self._counting:
                self._n_inside -= 1

    def _run_as_it_comes(self, feed: Feed) -> NDArray[np.float32]:
        outputs: list[NDArray[np.float32]] = self._session.run([OUTPUT], dict(feed))
        return outputs[0]

    def _run_copied(self, feed: Feed) -> NDArray[np.float32]:
        binding, inputs = self._copying.submit(self._bind, feed).result()
        self._thread.submit(self._session.run_with_iobinding, binding).result()
        del inputs
        return self._copying.submit(_fetch, binding).result()

    def _bind(self, feed: Feed) -> tuple[Any, list[Any]]:
        """Return a binding, and what is bound, to be kept while it runs: not every version keeps it."""
        copied = import_onnxruntime().OrtValue.ortvalue_from_numpy
        binding = self._session.io_binding()
        # Each call comes back when its copy is complete.
        inputs = {name: copied(np.ascontiguousarray(array), *self._device) for name, array in feed.items()}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_output(OUTPUT, *self._device)
        return binding, list(inputs.values())


def _fetch(binding: Any) -> NDArray[np.float32]:
    (output,) = binding.get_outputs()
    return np.array(output.numpy())  # on the CPU, numpy() is the output's own memory
