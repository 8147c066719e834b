"""Where the time of one cell goes on a CPU, by operator, from ONNX Runtime's own profile of a bundle's fp32 graph.

python benchmarks/operator_profile.py BUNDLE       # prints {operator: {"seconds": ..., "gflop": ...}} as JSON
"""

from __future__ import annotations

import json
import sys
import tempfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from scgenept_rt.benchmark.measurement import benchmark_cells
from scgenept_rt.bundle import Bundle
from scgenept_rt.providers import cpu_threads, import_onnxruntime

_RUNS = 3


def operator_profile(directory: Path) -> dict[str, dict[str, float]]:
    """Run one cell over all genes, and return seconds and GFLOP by operator of the fastest of a few runs."""
    bundle = Bundle.open(directory, check_files=False)
    n_genes = bundle.manifest.dimensions.n_genes
    values, flags = benchmark_cells(1, n_genes)
    feed = {"values": values, "pert_flags": flags, "gene_index": np.arange(n_genes)}
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = cpu_threads()
    options.enable_profiling = True
    with tempfile.TemporaryDirectory(prefix="scgenept-rt-profile-") as temporary:
        options.profile_file_prefix = str(Path(temporary) / "profile")
        session = onnxruntime.InferenceSession(
            str(bundle.path(bundle.graph("fp32", "ort"))), options, providers=["CPUExecutionProvider"]
        )
        for _ in range(1 + _RUNS):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    kernels = [event for event in events if event["name"].endswith("_kernel_time")]
    size = len(kernels) // (1 + _RUNS)
    runs = [kernels[begin : begin + size] for begin in range(size, len(kernels), size)]  # the first is the warm-up
    found: dict[str, dict[str, float]] = {}
    for event in min(runs, key=lambda run: sum(event["dur"] for event in run)):
        row = found.setdefault(event["args"]["op_name"], {"seconds": 0.0, "gflop": 0.0})
        row["seconds"] += event["dur"] / 1e6
        row["gflop"] += _flops(event["args"]) / 1e9
    return found


def _flops(kernel: dict[str, Any]) -> int:
    """Return the work of the matrix products; a constant second factor is packed, and not among the inputs."""
    inputs = [next(iter(shape.values())) for shape in kernel["input_type_shape"]]
    (output,) = kernel["output_type_shape"][0].values()
    if kernel["op_name"] in ("MatMul", "FusedMatMul", "Gemm"):
        return 2 * prod(output) * inputs[0][-1]
    if kernel["op_name"] == "MultiHeadAttention":
        batch, queries, width = inputs[0]
        return 4 * batch * queries * inputs[1][1] * width
    return 0


if __name__ == "__main__":
    print(json.dumps(operator_profile(Path(sys.argv[1]))))
