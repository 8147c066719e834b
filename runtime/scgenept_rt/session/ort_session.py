"""One graph of a bundle, ready to run on an execution provider."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.bundle import Bundle, BundleFile
from scgenept_rt.errors import DeviceMemoryError, GraphNotLoadedError, InferenceError, UseOption
from scgenept_rt.files.machine_limits import cpu_threads, memory_limit
from scgenept_rt.providers import ProviderChoice, import_onnxruntime, verify_active
from scgenept_rt.providers.onnx_runtime import LOG_FATAL_ONLY, register_tensorrt_rtx
from scgenept_rt.session.batch import automatic_batch_size, largest_batch
from scgenept_rt.session.protocol import OUTPUT, Feed
from scgenept_rt.session.tensorrt import tensorrt_options
from scgenept_rt.session.token_merging import run_merged, shares_token
from scgenept_rt.wording import pluralize

_OUT_OF_MEMORY: Final = re.compile(
    r"failed to allocate|unable to allocate|available memory of \d+ is smaller|out of memory|bad_alloc|bad allocation"
    # cuBLAS's own words for it; its workspace did not fit.
    r"|CUBLAS failure 3\b|CUBLAS_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
_CUDA_CAUSE: Final = re.compile(r"(?:CUDA|CUBLAS|CUDNN|CUDNN_FE|CUFFT) failure \d+: [^;\n]*")
_LONGEST_CAUSE: Final = 300
_FREE_MEMORY: Final = "Free memory, or use another device or machine"


class OrtSession:
    """A graph in ONNX Runtime; see `Session`. Thread-safe, not picklable (open one in each process)."""

    def __init__(
        self, bundle: Bundle, choice: ProviderChoice, *, on_notice: Callable[[str], None] | None = None
    ) -> None:
        """Load a graph; `on_notice` is called with a message about each step that takes long.

        Raises `BundleError` if the bundle has no such graph or a file of it is damaged, `ProviderError` if the provider
        did not become active or cannot run all of the graph, and `OutputError` if TensorRT's engines cannot be kept.
        """
        self.provider, self.precision = choice.name, choice.precision
        self.fixed_batches = choice.traits.on_gpu  # cuDNN and TensorRT keep a plan for each batch size and length
        self._choice = choice
        assert choice.target is not None, "a provider without a target opens no ONNX Runtime session"
        self._shares_token = shares_token(bundle.manifest) if choice.target == "merged" else None
        graph = bundle.graph(choice.precision, choice.target)
        bundle.check_graph(graph)
        sizes = bundle.manifest.dimensions
        self._width, self._max_batch = max(sizes.d_model, sizes.d_ff), None
        if choice.traits.keeps_engines and choice.device is not None:
            # A TensorRT engine takes batches of up to this size; a larger one is run in parts. It goes by all of the
            # memory, not by what is free, as the engine is kept for later runs.
            self._max_batch = automatic_batch_size(
                choice.name,
                sizes.n_genes,
                precision=choice.precision,
                d_model=sizes.d_model,
                free_bytes=choice.device["memory_bytes"],
            )
        self._session = self._load(bundle, graph, on_notice)
        # cuDNN keeps its plans, which take long to make, by thread: whoever calls, one thread runs.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scgenept-rt-gpu") if self.fixed_batches else None

    def run(
        self, values: NDArray[np.float32], pert_flags: NDArray[np.int64], gene_index: NDArray[np.int64]
    ) -> NDArray[np.float32]:
        """Predict one batch; see `Session.run`."""
        try:
            if self._shares_token is not None:
                return run_merged(self._run_graph, values, pert_flags, gene_index, self._shares_token)
            size = self._max_batch or max(len(values), 1)
            if self.fixed_batches:
                size = min(size, largest_batch(values.shape[1], self._width))
            parts = [slice(begin, begin + size) for begin in range(0, max(len(values), 1), size)]
            feeds: list[Feed] = [
                {"values": values[part], "pert_flags": pert_flags[part], "gene_index": gene_index} for part in parts
            ]
            outputs = list((self._thread.map if self._thread else map)(self._run_graph, feeds))
        except Exception as error:  # ONNX Runtime raises many classes of its own, without a common base
            raise inference_error(self.provider, len(values), values.shape[1], error) from error
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)

    def _load(self, bundle: Bundle, graph: BundleFile, on_notice: Callable[[str], None] | None) -> Any:
        """Return an `onnxruntime.InferenceSession` of a graph."""
        choice, onnxruntime = self._choice, import_onnxruntime()
        options = onnxruntime.SessionOptions()
        options.log_severity_level = LOG_FATAL_ONLY
        options.intra_op_num_threads = choice.engine["threads"] or cpu_threads()
        if choice.traits.on_gpu:
            # A node that silently ran on the CPU would cost more than all others together.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        else:
            _bound_memory()
            options.add_session_config_entry("session.use_env_allocators", "1")
        if choice.traits.is_plugin:
            # It lists only supported GPUs, in CUDA's order; without a device the session is not active on it.
            position = choice.status.details["usable_devices"].index(choice.device_id)
            options.add_provider_for_devices(register_tensorrt_rtx()[position : position + 1], {})
        size = self._max_batch
        given = tensorrt_options(bundle, graph, choice, size, on_notice) if size else nullcontext(choice.ort_options)
        with given as provider_options:
            providers = None if choice.traits.is_plugin else [(choice.ort_provider, provider_options)]
            try:
                weights = _linked_weights(options, bundle, graph)
                # With its fallback, the Python wrapper retries on the CPU, and raises what went wrong there.
                session = onnxruntime.InferenceSession(
                    str(bundle.path(graph)), options, providers=providers, enable_fallback=0
                )
            except Exception as error:  # as above
                if graph.target == "merged":
                    bundle.check_file(_owner(bundle, graph))  # ONNX Runtime does not always name it
                reason, remedy = summary(str(error)), "Run `scgenept-rt providers` to see what works here"
                raise GraphNotLoadedError(
                    f"{graph.path} cannot be loaded on the provider {choice.name}: {reason}",
                    _FREE_MEMORY if _OUT_OF_MEMORY.search(reason) else remedy,
                    where=bundle.directory,
                ) from error
            del weights  # the options refer to them until here
            verify_active(session.get_providers(), choice)
        return session

    def _run_graph(self, feed: Feed) -> NDArray[np.float32]:
        outputs: list[NDArray[np.float32]] = self._session.run([OUTPUT], dict(feed))
        return outputs[0]


@cache
def _bound_memory() -> None:
    """Let all sessions together take no more memory of the CPU than there is: a graph may state tensors of any size."""
    onnxruntime = import_onnxruntime()
    kind, place = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, onnxruntime.OrtMemType.DEFAULT
    memory = onnxruntime.OrtMemoryInfo("Cpu", kind, 0, place)
    arena = onnxruntime.OrtArenaCfg({"max_mem": memory_limit()})
    onnxruntime.create_and_register_allocator(memory, arena)


def _owner(bundle: Bundle, merged: BundleFile) -> BundleFile:
    """Return the graph whose file holds the weights of a merged one."""
    return bundle.graph(merged.precision or "fp32", "ort")


def _linked_weights(options: Any, bundle: Bundle, graph: BundleFile) -> bytes | None:
    """Read the file with a merged graph's weights, if it is a link to another directory.

    Stores of files have such links, one directory per file. Since 1.24 ONNX Runtime reads no file outside the graph's
    directory, but takes its content. Not for all bundles, as content takes memory, and a file is mapped.
    """
    if graph.target != "merged" or not hasattr(options, "add_external_initializers_from_files_in_memory"):
        return None
    owner = _owner(bundle, graph)
    if bundle.path(owner).resolve().parent == bundle.directory.resolve():
        return None
    weights = bundle.path(owner).read_bytes()
    options.add_external_initializers_from_files_in_memory([owner.path], [weights], [len(weights)])
    return weights


def inference_error(provider: str, n_cells: int, n_genes: int, cause: Exception) -> InferenceError:
    """Return the error of a batch that ONNX Runtime or PyTorch could not run."""
    batch = f"a batch of {pluralize(n_cells, 'cell')} x {pluralize(n_genes, 'gene')}"
    if isinstance(cause, MemoryError) or _OUT_OF_MEMORY.search(str(cause)):
        return DeviceMemoryError(f"the provider {provider} ran out of memory on {batch}", _FREE_MEMORY)
    return InferenceError(
        f"the provider {provider} failed on {batch}: {summary(str(cause))}",
        "Run `scgenept-rt verify` to check the provider",
        (UseOption("provider", "use another provider"),),
    )


def summary(detail: str) -> str:
    """Return the cause in a long message: of CUDA's errors what failed, else the first line, shortened."""
    cause = _CUDA_CAUSE.search(detail)
    text = cause.group().strip() if cause else next(iter(detail.strip().splitlines()), "no reason given")
    return text if len(text) <= _LONGEST_CAUSE else f"{text[: _LONGEST_CAUSE - 3]}..."
