"""What the steps share: sizes, where results go, sessions with their inputs on the device, and timing."""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BENCHMARKS = Path(__file__).resolve().parents[1]
sys.path.append(str(BENCHMARKS))

OUT = Path(os.environ.get("OUT", "."))
WORK = Path(os.environ.get("KIT_WORK", "/tmp/gpu-proof/work"))
DEVICE = os.environ.get("KIT_DEVICE", "cuda")
GPU = DEVICE == "cuda"


def _size(name: str, on_gpu: int, on_cpu: int) -> int:
    return int(os.environ.get(f"KIT_{name}", on_gpu if GPU else on_cpu))


GENES, LAYERS, CELLS = _size("GENES", 5045, 300), _size("LAYERS", 12, 2), _size("CELLS", 32, 4)
TOKENS, CONTROLS = _size("TOKENS", 6000, 400), _size("CONTROLS", 64, 8)
PRECISION = "fp16" if GPU else "fp32"
BIAS_FORMS = {form: WORK / f"{form}.onnx" for form in ("merged biases", "separate biases")}
"""Graphs with and without the operations for biases that can be merged; a bundle has the first, if fp16 allows it."""


def note(step: str, **fields: Any) -> None:
    """Append a result to the file of results, and print it."""
    line = json.dumps({"step": step, **fields}, default=float)
    with (OUT / "results.jsonl").open("a") as file:
        file.write(line + "\n")
    print(line[:600], flush=True)


def tried(step: str, what: str, run: Callable[[], Any]) -> Any:
    """Run one measurement; record its failure as a result."""
    try:
        return run()
    except Exception as error:
        note(step, what=what, error=f"{type(error).__name__}: {str(error)[:600]}")
        return None


def workload() -> Any:
    """Return the checkpoint, bundle and cells that all steps use, as `side_by_side.py` makes them."""
    from workload import Workload

    return Workload(directory=WORK, genes=GENES, layers=LAYERS, cells=CELLS, tokens=TOKENS, seed=0, device=DEVICE)


def labels(work: Any) -> list[str]:
    """Return four perturbations: a gene, a pair, a gene in the middle of the panel, and one outside the vocabulary."""
    names = work.gene_names()
    return [f"{names[0]}+ctrl", f"{names[1]}+{names[2]}", f"{names[len(names) // 2]}+ctrl", f"{names[-1]}+ctrl"]


def session(path: str, *, pattern: bool = True, **options: str) -> Any:
    """Open a graph with ONNX Runtime alone, on the device."""
    from scgenept_rt.providers import diagnose_provider, import_onnxruntime

    if GPU:
        diagnose_provider("cuda")  # loads CUDA and cuDNN from NVIDIA's wheels
    ort = import_onnxruntime()
    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    settings.enable_mem_pattern = pattern
    settings.intra_op_num_threads = 1 if GPU else 2
    providers: list[Any] = ["CPUExecutionProvider"]
    if GPU:
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        providers = [("CUDAExecutionProvider", {"device_id": "0", **options})]
    return ort.InferenceSession(path, settings, providers=providers, enable_fallback=0)


def bound(opened: Any, feed: dict[str, np.ndarray]) -> Any:
    """Return the session with its inputs and outputs on the device."""
    from matrix_rate import Bound

    return Bound(opened, feed, "predicted", "cuda" if GPU else "cpu")


def median_ms(run: Callable[[], Any]) -> dict[str, float]:
    """Time a function; return the median and the best."""
    for _ in range(3):
        run()
    seconds = []
    for _ in range(12 if GPU else 2):
        begin = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - begin)
    return {"ms": statistics.median(seconds) * 1e3, "best_ms": min(seconds) * 1e3}


def feed(cells: int, genes: int, table: int) -> dict[str, np.ndarray]:
    """Return inputs of a graph: 8% of the values are non-zero, and one gene per cell is perturbed."""
    from scgenept_rt.benchmark.measurement import benchmark_cells

    values, flags = benchmark_cells(cells, genes)
    return {"values": values, "pert_flags": flags, "gene_index": np.arange(genes, dtype=np.int64) % table}
