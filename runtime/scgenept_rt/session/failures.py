"""What ONNX Runtime and PyTorch raise, as errors of this package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from scgenept_rt.errors import DeviceMemoryError, GraphNotLoadedError, InferenceError, UseOption
from scgenept_rt.wording import pluralize

_OUT_OF_MEMORY: Final = re.compile(
    r"failed to allocate|unable to allocate|available memory of \d+ is smaller|out of memory|bad_alloc|bad allocation"
    # cuBLAS's own words for it; its workspace did not fit.
    r"|CUBLAS failure 3\b|CUBLAS_STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
_CUDA_CAUSE: Final = re.compile(r"(?:CUDA|CUBLAS|CUDNN|CUDNN_FE|CUFFT) failure \d+: [^;\n]*")
_LONGEST: Final = 300
_FREE_MEMORY: Final = "Free memory, or use another device or machine"


def inference_error(provider: str, n_cells: int, n_genes: int, cause: Exception) -> InferenceError:
    """Return the error of a batch that could not be run."""
    batch = f"a batch of {pluralize(n_cells, 'cell')} x {pluralize(n_genes, 'gene')}"
    if isinstance(cause, MemoryError) or _OUT_OF_MEMORY.search(str(cause)):
        return DeviceMemoryError(f"the provider {provider} ran out of memory on {batch}", _FREE_MEMORY)
    return InferenceError(
        f"the provider {provider} failed on {batch}: {summary(str(cause))}",
        "Run `scgenept-rt verify` to check the provider",
        (UseOption("provider", "use another provider"),),
    )


def graph_not_loaded(directory: Path, graph: str, provider: str, reason: str) -> GraphNotLoadedError:
    """Return the error of a graph that could not be loaded."""
    remedy = _FREE_MEMORY if _OUT_OF_MEMORY.search(reason) else "Run `scgenept-rt providers` to see what works here"
    return GraphNotLoadedError(
        f"{graph} cannot be loaded on the provider {provider}: {reason}", remedy, where=directory
    )


def summary(detail: str) -> str:
    """Return the cause in a long message: of CUDA's errors what failed, else the first line, shortened."""
    cause = _CUDA_CAUSE.search(detail)
    text = cause.group().strip() if cause else next(iter(detail.strip().splitlines()), "no reason given")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."
