"""How the cost of one cell grows with the number of its genes, up to more than the model has.

python benchmarks/growth.py --json benchmarks/results/NAME.json
python benchmarks/growth.py --layers 1 --genes 64,128 --tokens 200      # a try
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

from scgenept_rt.benchmark.machine import host_peak_bytes, reset_host_peak
from scgenept_rt.benchmark.measurement import benchmark_cells, encoder_flops
from scgenept_rt.errors import InferenceError
from scgenept_rt.predictor import Predictor, load
from shared import machine, numbers, save, timed
from workload import VARIANT, Workload

_PANEL, _REPEATS = 50, 2


def main(
    device: Literal["cpu", "cuda"] = "cpu",
    genes: str = "512,1024,2048,5045,10000,20000",
    layers: int = 12,
    tokens: Annotated[int, typer.Option(help="rows of the checkpoint's embedding tables")] = 4096,
    work: Annotated[Path | None, typer.Option(help="directory for checkpoint and bundle, kept")] = None,
    json: Path | None = None,
) -> None:
    with tempfile.TemporaryDirectory(prefix="scgenept-rt-growth-") as temporary:
        workload = Workload((work or Path(temporary)).resolve(), _PANEL, layers, 2, tokens, 0, device)
        workload.prepare()
        with load(workload.bundle, provider=device) as model:
            sizes = {"variant": VARIANT, "layers": layers, "provider": model.provider, "precision": model.precision}
            rows = [time_genes(model, n_genes) for n_genes in numbers(genes)]
    save({"machine": machine(device), **sizes, "genes": rows}, json, "genes")


def time_genes(model: Predictor, n_genes: int) -> dict[str, Any]:
    """Time one cell of as many genes; more than the model's are its genes again, with values of their own."""
    dimensions = model.bundle.manifest.dimensions
    values, flags = benchmark_cells(1, n_genes, expressed=1.0)
    index = np.arange(n_genes, dtype=np.int64) % dimensions.n_table_genes
    row: dict[str, Any] = {"genes": n_genes, "gflop": encoder_flops(dimensions, n_genes) / 1e9, "problem": ""}
    # What takes minutes is not made better by a warm-up, which takes minutes too.
    n_runs, n_warm_up = (1 + _REPEATS, 1) if n_genes <= 6000 else (1, 0)
    reset_host_peak()
    runs = []
    try:
        for _ in range(n_runs):
            with timed() as seconds:
                model.session.run(values, flags, index)
            runs.append(seconds)
    except (MemoryError, InferenceError) as error:
        return row | {"problem": "out of memory" if isinstance(error, MemoryError) else str(error)}
    row |= {name: min(run[name] for run in runs[n_warm_up:]) for name in ("seconds", "cpu_seconds")}
    print(f"{n_genes:,} genes: {row['seconds']:.2f} s", flush=True)
    return row | {"rate": row["gflop"] / row["seconds"], "peak_bytes": host_peak_bytes()}


if __name__ == "__main__":
    typer.run(main)
