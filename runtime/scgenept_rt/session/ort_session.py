"""One graph of a bundle, ready to run on an execution provider."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle import Bundle, BundleFile, Precision
from scgenept_rt.errors import GraphNotLoadedError, InferenceFailedError, ProviderUnavailableError
from scgenept_rt.providers import (
    ProviderChoice,
    cpu_threads,
    import_onnxruntime,
    register_tensorrt_rtx,
    verify_active,
)
from scgenept_rt.session.batch import automatic_batch_size
from scgenept_rt.session.cuda_graphs import RecordedBatches, Shape, cuda_graph_options
from scgenept_rt.session.graph_io import OUTPUT, Feed
from scgenept_rt.session.tensorrt import tensorrt_options
from scgenept_rt.session.token_merging import run_merged, shares_token

_LOG_FATAL_ONLY = 4
"""What goes wrong is raised, with ONNX Runtime's own words; it need not stand in the terminal as well."""


class OrtSession:
    """A graph in ONNX Runtime. Safe to run from many threads at once; not picklable (open one in each process)."""

    def __init__(
        self,
        bundle: Bundle,
        choice: ProviderChoice,
        *,
        threads: int | None = None,
        recorded: Sequence[Shape] = (),
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        """Load the graph that `choice` names.

        Parameters
        ----------
        bundle
            An opened bundle.
        choice
            Provider, precision and target, from `select_provider`.
        threads
            Threads of the CPU provider; None for as many as this process may use (`cpu_threads`).
        recorded
            (n_cells, n_genes) of the batches to record as CUDA graphs; for the provider cuda.
        on_notice
            Is told what takes long: TensorRT compiles an engine for minutes, once.

        Raises
        ------
        GraphNotInBundleError
            If the bundle has no such graph.
        ProviderNotActiveError
            If the provider did not become active, or cannot run the whole graph.
        GraphNotLoadedError
            If ONNX Runtime cannot load the graph.
        BundleFileError
            If that is since the file that holds its weights is missing or has changed.
        CacheDirectoryError
            If TensorRT's engines cannot be kept.
        """
        onnxruntime = import_onnxruntime()
        assert choice.target is not None, "a provider without a target makes no ONNX Runtime session"
        self._choice = choice
        self._shares_token = shares_token(bundle.manifest) if choice.target == "merged" else None
        graph = bundle.graph(choice.precision, choice.target)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _LOG_FATAL_ONLY
        options.intra_op_num_threads = int(threads or cpu_threads())
        if choice.name != "cpu":
            # A node that silently ran on the CPU would cost more than all others together.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        # An engine is built for sizes up to this; a larger batch is run in parts.
        self._max_batch: int | None = None
        providers: list[tuple[str, dict[str, str]]] | None = choice.ort_providers
        with ExitStack() as stack:
            if choice.name == "tensorrt":
                self._max_batch = _most_cells(bundle, choice)
                opened = tensorrt_options(bundle, graph, choice, self._max_batch, on_notice)
                providers = [(str(choice.ort_provider), stack.enter_context(opened))]
            elif choice.name == "tensorrt-rtx":
                _add_tensorrt_rtx(options, choice)
                providers = None
            elif recorded:
                providers = [(name, {**given, **cuda_graph_options()}) for name, given in choice.ort_providers]
            try:
                weights = _linked_weights(options, bundle, graph)
                self._session = onnxruntime.InferenceSession(str(bundle.path(graph)), options, providers=providers)
            except Exception as error:  # ONNX Runtime raises many classes of its own, without a common base
                if graph.target == "merged":
                    bundle.check_file(_owner(bundle, graph))  # ONNX Runtime does not always name it
                raise GraphNotLoadedError(bundle.directory, graph.path, choice.name, str(error)) from error
            del weights  # the options refer to them until here
            verify_active(self._session.get_providers(), choice)
        # cuDNN's plans, which take long to make, are kept by thread: whoever calls, one thread runs.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scgenept-rt-gpu") if self.fixed_batches else None
        self._recorded: RecordedBatches | None = None
        if recorded and self._thread is not None:
            device = ("cuda", choice.device_id or 0)
            tolerance = bundle.tolerance(choice.precision)
            recording = self._thread.submit(RecordedBatches, self._session, *device, recorded, tolerance)
            try:
                self._recorded = recording.result()
            except Exception as error:  # as above
                problem = f"CUDA graphs cannot be recorded ({error}); load it without them"
                raise GraphNotLoadedError(bundle.directory, graph.path, choice.name, problem) from error

    @property
    def provider(self) -> str:
        """Name of the provider."""
        return self._choice.name

    @property
    def precision(self) -> Precision:
        """Precision of the graph."""
        return self._choice.precision

    @property
    def fixed_batches(self) -> bool:
        """True on GPUs: cuDNN and TensorRT keep a plan for each batch size and length."""
        return self._choice.name != "cpu"

    @property
    def merges_tokens(self) -> bool:
        """Whether identical tokens are computed once; then cells are computed one at a time, whatever the batch."""
        return self._shares_token is not None

    def run(
        self, values: NDArray[np.float32], pert_flags: NDArray[np.int64], gene_index: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Predict one batch; see `Session.run`."""
        try:
            if self._shares_token is not None:
                return run_merged(self._run_graph, values, pert_flags, gene_index, self._shares_token)
            size = self._max_batch or max(len(values), 1)
            parts = [slice(begin, begin + size) for begin in range(0, max(len(values), 1), size)]
            outputs = [
                self._run_in_turn({"values": values[part], "pert_flags": pert_flags[part], "gene_index": gene_index})
                for part in parts
            ]
        except Exception as error:  # as above
            raise InferenceFailedError(self.provider, len(values), values.shape[1], str(error)) from error
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    def _run_in_turn(self, feed: Feed) -> NDArray[np.float32]:
        return self._run_graph(feed) if self._thread is None else self._thread.submit(self._run_graph, feed).result()

    def _run_graph(self, feed: Feed) -> NDArray[np.float32]:
        if self._recorded is not None:
            return self._recorded.run(feed)
        outputs: list[NDArray[np.float32]] = self._session.run([OUTPUT], dict(feed))
        return outputs[0]

    def __reduce__(self) -> Any:
        """Refuse: a session holds native memory."""
        raise TypeError("a session cannot be pickled: it holds native memory. Open the bundle again in each process.")


def _most_cells(bundle: Bundle, choice: ProviderChoice) -> int:
    """Return the cells of the largest batch that an engine is built for.

    By all of the GPU's memory, not by what is free of it: the engine is kept for later runs.
    """
    dimensions, devices = bundle.manifest.dimensions, choice.status.details["devices"]
    return automatic_batch_size(
        choice.name,
        dimensions.n_genes,
        precision=choice.precision,
        d_model=dimensions.d_model,
        free_bytes=devices[choice.device_id or 0]["memory_bytes"],
    )


def _owner(bundle: Bundle, merged: BundleFile) -> BundleFile:
    """Return the graph whose file holds the weights of a merged one."""
    return bundle.graph(merged.precision or "fp32", "ort")


def _linked_weights(options: Any, bundle: Bundle, graph: BundleFile) -> bytes | None:
    """Read the file that a merged graph's weights lie in, if it is a link to another directory than the graph is.

    Stores of files have such links, one directory a file. Since 1.24 ONNX Runtime reads no file outside the graph's own
    directory, but takes its contents. Not for all bundles, as contents take memory, and a file is mapped.
    """
    if graph.target != "merged" or not hasattr(options, "add_external_initializers_from_files_in_memory"):
        return None
    owner = _owner(bundle, graph)
    if bundle.path(owner).resolve().parent == bundle.path(graph).resolve().parent:
        return None
    weights = bundle.path(owner).read_bytes()
    options.add_external_initializers_from_files_in_memory([owner.path], [weights], [len(weights)])
    return weights


def _add_tensorrt_rtx(options: Any, choice: ProviderChoice) -> None:
    """Register the plugin and add its device; it lists the GPUs that it supports alone, in CUDA's order."""
    devices = register_tensorrt_rtx()
    position = list(choice.status.details["usable_devices"]).index(choice.device_id)
    if position >= len(devices):
        listed = f"its plugin lists {len(devices)} devices, not device {choice.device_id}"
        raise ProviderUnavailableError(choice.name, listed, "use --provider cuda")
    options.add_provider_for_devices([devices[position]], {})
