"""CUDA graphs: all kernels of a small batch, recorded when a session is opened and launched together from then on.

In small batches, a GPU idles between kernels until the next one is launched. A recorded graph reads and writes the
addresses that it was recorded with, so its inputs and outputs are bound to fixed places on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle import Tolerance
from scgenept_rt.providers import import_onnxruntime
from scgenept_rt.session.graph_io import OUTPUT, Feed

BATCH_SIZES: Final = (1, 2, 4)
"""Cells per batch that gain: from 8 on, kernels take so long that launching them costs nothing."""

Shape = tuple[int, int]
"""Cells and genes of a batch."""


class RecordedBatches:
    """Runs the batches of a session, those of some shapes as recorded graphs.

    Make and use it in the same thread. Everything is recorded at once: work on a GPU by other threads of
    the process can spoil a recording, and a recording their work.
    """

    def __init__(
        self, session: Any, device_type: str, device_id: int, shapes: Sequence[Shape], tolerance: Tolerance
    ) -> None:
        """Record batches of these shapes, and compare their outputs with those of the session without recording.

        Parameters
        ----------
        session
            An `onnxruntime.InferenceSession` of a bundle's graph, made with the provider option `enable_cuda_graph`.
        device_type, device_id
            Where the session runs, as `onnxruntime.OrtValue` names it, such as ``"cuda"`` and 0.

        Raises
        ------
        RuntimeError
            If they differ by more than the tolerance. ONNX Runtime's own errors are not changed.
        """
        self._session = session
        self._not_recorded = _run_options(-1)
        self._recorded: dict[tuple[Any, ...], Callable[[Feed], NDArray[np.float32]]] = {}
        for graph_id, shape in enumerate(dict.fromkeys(shapes), start=1):
            feeds = [_random_feed(shape, seed) for seed in range(2)]
            # Not recorded first: planning and allocating, when a shape first runs, must not happen within a recording.
            expected = [self._run_plainly(feed) for feed in feeds]
            run = _bind(session, feeds[0], (device_type, device_id), graph_id)
            for feed, plain in zip(feeds, expected, strict=True):
                comparison = tolerance.compare(run(feed), plain)
                if not comparison.passed:
                    raise RuntimeError(
                        f"outputs of a recorded batch of {shape[0]} x {shape[1]:,} values (cells x genes) differ from "
                        f"those of a plain one by up to {comparison.max_difference:.2e}"
                    )
            self._recorded[_form(feeds[0])] = run

    def run(self, feed: Feed) -> NDArray[np.float32]:
        """Predict one batch: a graph's inputs by name; returns (n_cells, n_genes) float32, an array of its own."""
        return self._recorded.get(_form(feed), self._run_plainly)(feed)

    def _run_plainly(self, feed: Feed) -> NDArray[np.float32]:
        outputs: list[NDArray[np.float32]] = self._session.run([OUTPUT], dict(feed), self._not_recorded)
        return outputs[0]


def _bind(session: Any, feed: Feed, device: tuple[str, int], graph_id: int) -> Callable[[Feed], NDArray[np.float32]]:
    """Place inputs and output on the device; return a function that runs batches there, recording in its first run."""
    placed = import_onnxruntime().OrtValue.ortvalue_from_shape_and_type
    inputs = {name: placed(array.shape, array.dtype.type, *device) for name, array in feed.items()}
    output = placed(feed["values"].shape, np.float32, *device)
    binding, options = session.io_binding(), _run_options(graph_id)
    for name, value in inputs.items():
        binding.bind_ortvalue_input(name, value)
    binding.bind_ortvalue_output(OUTPUT, output)

    def run(feed: Feed) -> NDArray[np.float32]:
        for name, value in inputs.items():
            value.update_inplace(np.ascontiguousarray(feed[name]))
        session.run_with_iobinding(binding, options)
        return np.array(output.numpy())  # the next run writes over the output

    return run


def _form(feed: Feed) -> tuple[Any, ...]:
    """Return the shapes and dtypes of a batch: one graph runs all batches of these."""
    return tuple((name, array.shape, array.dtype.str) for name, array in feed.items())


def _random_feed(shape: Shape, seed: int) -> Feed:
    rng = np.random.default_rng(seed)
    return {
        "values": rng.random(shape, dtype=np.float32),
        "pert_flags": rng.integers(0, 2, shape),
        "gene_index": rng.permutation(shape[1]),
    }


def _run_options(graph_id: int) -> Any:
    options = import_onnxruntime().RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph_id))
    return options
