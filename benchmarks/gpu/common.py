"""What the steps share: sizes, where results go, inputs and timing."""

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

from scgenept_rt.benchmark.measurement import benchmark_cells

sys.path.append(str(Path(__file__).resolve().parents[1]))
from workload import Workload

OUT = Path(os.environ.get("OUT", "."))
WORK = Path(os.environ.get("KIT_WORK", "/tmp/gpu-proof/work"))
DEVICE = os.environ.get("KIT_DEVICE", "cuda")
GPU = DEVICE == "cuda"


def _size(name: str, on_gpu: int, on_cpu: int) -> int:
    return int(os.environ.get(f"KIT_{name}", on_gpu if GPU else on_cpu))


GENES, LAYERS, CELLS = _size("GENES", 5045, 300), _size("LAYERS", 12, 2), _size("CELLS", 32, 4)
TOKENS, CONTROLS = _size("TOKENS", 6000, 400), _size("CONTROLS", 64, 8)
PRECISION = "fp16" if GPU else "fp32"
WORKLOAD = Workload(WORK, GENES, LAYERS, CELLS, TOKENS, DEVICE)
"""The checkpoint, bundle and cells that all steps use, as `side_by_side.py` makes them."""
NAMES = WORKLOAD.gene_names()
LABELS = [f"{NAMES[0]}+ctrl", f"{NAMES[1]}+{NAMES[2]}", f"{NAMES[len(NAMES) // 2]}+ctrl", f"{NAMES[-1]}+ctrl"]
"""A gene, a pair, a gene in the middle of the panel, and one outside the vocabulary."""
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


def feed(cells: int, genes: int = GENES) -> dict[str, np.ndarray]:
    """Return inputs of a graph: 8% of the values are non-zero, and one gene per cell is perturbed."""
    values, flags = benchmark_cells(cells, genes)
    return {"values": values, "pert_flags": flags, "gene_index": np.arange(genes, dtype=np.int64) % GENES}
