"""ONNX Runtime's TensorRT provider: its options, and the engines that it compiles for minutes and then keeps."""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from scgenept_rt.bundle import Bundle, BundleFile
from scgenept_rt.files.cache import CACHE_VARIABLE, cache_directory
from scgenept_rt.files.durable import check_own
from scgenept_rt.files.failures import failed_writes
from scgenept_rt.files.hashing import sha256_of
from scgenept_rt.providers import ProviderChoice, import_onnxruntime

_LISTING: Final = "listing.json"
_BUILDING: Final = ".building-"
_ABANDONED_SECONDS: Final = 24 * 3600


@contextmanager
def tensorrt_options(
    bundle: Bundle, graph: BundleFile, choice: ProviderChoice, max_batch: int, on_notice: Callable[[str], None] | None
) -> Iterator[dict[str, str]]:
    """Yield the provider options for a session, which must be opened within the context.

    `on_notice` is called when an engine must be built, for batches of up to `max_batch` cells, and when it is done.
    See `engine_directory` for what is raised.
    """
    device, n_genes = choice.device or {}, bundle.manifest.dimensions.n_genes
    one, full = (
        f"values:{cells}x{genes},pert_flags:{cells}x{genes},gene_index:{genes}"
        for cells, genes in ((1, 1), (max_batch, n_genes))
    )
    fixed = {
        **choice.ort_options,
        # The graph holds its precision; the builder may use half precision only where the graph does.
        "trt_fp16_enable": "1" if choice.precision == "fp16" else "0",
        "trt_layer_norm_fp32_fallback": "1",
        # The sizes that an engine is built for: tuned for full batches of all genes.
        "trt_profile_min_shapes": one,
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


def _tensorrt_version() -> str:
    """Return the version number of the loaded TensorRT library (101304 is 10.13.4), "unknown" if it gives none."""
    try:
        return str(ctypes.CDLL("libnvinfer.so.10").getInferLibVersion())
    except (OSError, AttributeError):
        return "unknown"


@contextmanager
def engine_directory(root: Path, key: Mapping[str, str]) -> Iterator[tuple[Path, bool]]:
    """Yield the directory of an engine, and whether the engine is there; otherwise build it there within the context.

    Leaving without an error makes what was built part of the cache, by one rename: a build that was killed leaves
    nothing that a later run would read. `root` is the directory of all engines, `key` everything that the engine
    depends on. Raises `OutputError` if the cache cannot be written.
    """
    kept = root / hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    remedy = f"Set the environment variable {CACHE_VARIABLE} to a directory that can"
    with failed_writes(root, "this cache directory for compiled engines cannot be written", remedy):
        check_own(root)
        check_own(kept)
        whole = _is_whole(kept)
        if not whole:
            root.mkdir(parents=True, exist_ok=True)
            building = Path(tempfile.mkdtemp(prefix=f"{kept.name}{_BUILDING}", dir=root))
    if whole:
        yield kept, True
        return
    for left in root.glob(f"*{_BUILDING}*"):  # by builds that were killed; younger ones may be in use
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED_SECONDS:
                shutil.rmtree(left, ignore_errors=True)
    try:
        yield building, False
        files = _checksums(building)
        with contextlib.suppress(OSError):  # a full disk, or another process was first: the session has its engine
            if files and not _is_whole(kept):
                listing = json.dumps({"key": dict(key), "files": files}, indent=2)
                (building / _LISTING).write_text(listing, encoding="utf-8")
                shutil.rmtree(kept, ignore_errors=True)
                building.rename(kept)
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _is_whole(kept: Path) -> bool:
    try:
        files = json.loads((kept / _LISTING).read_text(encoding="utf-8"))["files"]
        return bool(files) and files == _checksums(kept)
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _checksums(directory: Path) -> dict[str, str]:
    return {path.name: sha256_of(path) for path in directory.iterdir() if path.name != _LISTING}
