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
    device = choice.device or {}
    fixed = {
        **choice.ort_options,
        # The graph holds its precision; the builder may use half precision only where the graph does.
        "trt_fp16_enable": "1" if choice.precision == "fp16" else "0",
        "trt_layer_norm_fp32_fallback": "1",
        **shape_profiles(bundle.manifest.dimensions.n_genes, max_batch),
    }
    key = {
        "bundle": bundle.digest,
        "graph": graph.sha256,
        "gpu": str(device["name"]),
        "compute capability": str(device["compute_capability"]),
        "onnxruntime": str(import_onnxruntime().__version__),
        "tensorrt": tensorrt_version(),
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


def shape_profiles(n_genes: int, max_batch: int) -> dict[str, str]:
    """Return the ranges of input sizes that an engine is built for: tuned for full batches of all genes."""

    def shapes(batch: int, genes: int) -> str:
        return f"values:{batch}x{genes},pert_flags:{batch}x{genes},gene_index:{genes}"

    return {
        "trt_profile_min_shapes": shapes(1, 1),
        "trt_profile_opt_shapes": shapes(max_batch, n_genes),
        "trt_profile_max_shapes": shapes(max_batch, n_genes),
    }


def tensorrt_version() -> str:
    """Return the version number of the loaded TensorRT library (101304 is 10.13.4), "unknown" if it gives none."""
    try:
        return str(ctypes.CDLL("libnvinfer.so.10").getInferLibVersion())
    except (OSError, AttributeError):
        return "unknown"
