"""ONNX Runtime's TensorRT provider: its options, and the engines that it compiles for minutes and then keeps."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from scgenept_rt.bundle import Bundle, BundleFile
from scgenept_rt.files.cache import cache_directory
from scgenept_rt.providers import ProviderChoice, import_onnxruntime
from scgenept_rt.session.engine_cache import engine_directory


@contextmanager
def tensorrt_options(
    bundle: Bundle, graph: BundleFile, choice: ProviderChoice, max_batch: int, on_notice: Callable[[str], None] | None
) -> Iterator[dict[str, str]]:
    """Yield the provider options for a session, which must be opened within the context.

    `on_notice` is called when an engine must be built, for batches of up to `max_batch` cells, and when it is done.
    See `engine_directory` for what is raised.
    """
    device, n_genes = choice.device or {}, bundle.manifest.dimensions.n_genes
    full = _shapes(max_batch, n_genes)
    fixed = {
        **choice.ort_options,
        # The graph holds its precision; the builder may use half precision only where the graph does.
        "trt_fp16_enable": "1" if choice.precision == "fp16" else "0",
        "trt_layer_norm_fp32_fallback": "1",
        # The sizes that an engine is built for: tuned for full batches of all genes.
        "trt_profile_min_shapes": _shapes(1, 1),
        "trt_profile_opt_shapes": full,
        "trt_profile_max_shapes": full,
    }
    key = {
        "bundle": bundle.digest,
        "graph": graph.sha256,
        "gpu": str(device["name"]),
        "compute capability": str(device["compute_capability"]),
        "onnxruntime": str(import_onnxruntime().__version__),
        "tensorrt": _tensorrt_version(),
        **{name: value for name, value in fixed.items() if name != "device_id"},
    }
    kept, started = cache_directory("engines"), time.monotonic()
    with engine_directory(kept, key) as (directory, is_built):
        announce = None if is_built else on_notice
        if announce is not None:
            announce(
                f"building a TensorRT engine for {device['name']}: this takes minutes, and only once; it is kept in "
                f"{kept}."
            )
        yield fixed | {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(directory),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(directory),
        }
        if announce is not None:
            announce(f"built the engine in {time.monotonic() - started:,.0f} s.")


def _shapes(n_cells: int, n_genes: int) -> str:
    return f"values:{n_cells}x{n_genes},pert_flags:{n_cells}x{n_genes},gene_index:{n_genes}"


def _tensorrt_version() -> str:
    """Return the version number of the loaded TensorRT library (101304 is 10.13.4), "unknown" if it gives none."""
    try:
        return str(ctypes.CDLL("libnvinfer.so.10").getInferLibVersion())
    except (OSError, AttributeError):
        return "unknown"
