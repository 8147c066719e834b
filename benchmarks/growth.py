"""How the cost of one cell grows with the number of its genes, up to more than the model has.

python benchmarks/growth.py --json benchmarks/results/NAME.json
python benchmarks/growth.py --layers 1 --genes 64,128 --tokens 200      # a try
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from scgenept_rt.benchmark.machine import describe_machine
from scgenept_rt.benchmark.measurement import benchmark_cells
from scgenept_rt.benchmark.memory import host_peak_bytes, reset_host_peak
from scgenept_rt.benchmark.work import encoder_flops
from scgenept_rt.errors import InferenceError
from scgenept_rt.predictor import Predictor, load
from scgenept_rt.providers import select_provider
from tables import genes_table
from workload import VARIANT, Workload

_PANEL, _REPEATS = 50, 2


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="scgenept-rt-growth-") as temporary:
        work = (options.work or Path(temporary)).resolve()
        workload = Workload(work, _PANEL, options.layers, 1, options.tokens, 0, options.device)
        workload.prepare()
        with load(workload.bundle, provider=options.device) as model:
            result: dict[str, Any] = {
                "kind": "growth",
                "machine": describe_machine(select_provider(provider=options.device)),
                "provider": model.provider,
                "precision": model.precision,
                "variant": VARIANT,
                "layers": options.layers,
                "genes": [time_genes(model, n_genes) for n_genes in options.genes],
            }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(genes_table(result))


def time_genes(model: Predictor, n_genes: int) -> dict[str, Any]:
    """Time one cell of as many genes; more than the model's are its genes again, with values of their own."""
    dimensions = model.bundle.manifest.dimensions
    values, flags = benchmark_cells(1, n_genes, expressed=1.0)
    index = np.arange(n_genes, dtype=np.int64) % dimensions.n_table_genes
    row: dict[str, Any] = {"genes": n_genes, "gflop": encoder_flops(dimensions, n_genes) / 1e9, "problem": ""}
    # What takes minutes is not made better by a warm-up, which takes minutes too.
    n_runs, n_warm_up = (1 + _REPEATS, 1) if n_genes <= 6000 else (1, 0)
    reset_host_peak()
    timed = []
    try:
        for _ in range(n_runs):
            begin, cpu_begin = time.perf_counter(), time.process_time()
            model.session.run(values, flags, index)
            timed.append((time.perf_counter() - begin, time.process_time() - cpu_begin))
    except (MemoryError, InferenceError) as error:
        return row | {"problem": "out of memory" if isinstance(error, MemoryError) else str(error)}
    seconds, cpu_seconds = (min(figures) for figures in zip(*timed[n_warm_up:], strict=True))
    print(f"{n_genes:,} genes: {seconds:.2f} s", flush=True)
    return row | {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": host_peak_bytes()}


def _options() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--genes", type=numbers, default=[512, 1024, 2048, 5045, 10_000, 20_000])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=4096, help="rows of the checkpoint's embedding tables")
    parser.add_argument("--work", type=Path, help="directory for checkpoint and bundle, kept for the next run")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
