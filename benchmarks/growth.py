"""How cost grows: of one cell with its genes, up to more than the model has, and of `predict` with its rows.

python benchmarks/growth.py genes --json benchmarks/results/NAME-growth.json
python benchmarks/growth.py genes --layers 1 --genes 64,128 --tokens 200      # a try
python benchmarks/growth.py rows --json benchmarks/results/NAME-memory.json

The peak memory of `predict` must not grow with the rows. Each number of rows runs in a process of its own, from an
.h5ad of control cells to an .h5ad of predicted cells over the demo bundle's 5,045 genes. A session that returns zeros
stands in for the network, which would take days: everything else (reading, batches, writing) is the same.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import typer

import scgenept_rt as sgr
from scgenept_rt.benchmark.machine import host_peak_bytes, reset_host_peak
from scgenept_rt.benchmark.measurement import benchmark_cells, encoder_flops
from scgenept_rt.demo import demo_control_cells
from scgenept_rt.errors import InferenceError
from shared import Flags, Values, in_new_process, machine, numbers, save, timed
from workload import VARIANT, Workload

PERTURBATIONS = ["FOSB+ctrl", "SAMD1+ZBTB1", "CDKN1B+ctrl", "FOXA1+FOXL2"]

app = typer.Typer()


@app.command("genes")
def grow_genes(
    device: Literal["cpu", "cuda"] = "cpu",
    genes: str = "512,1024,2048,5045,10000,20000",
    layers: int = 12,
    tokens: Annotated[int, typer.Option(help="rows of the checkpoint's embedding tables")] = 4096,
    work: Annotated[Path | None, typer.Option(help="directory for checkpoint and bundle, kept")] = None,
    json: Path | None = None,
) -> None:
    with tempfile.TemporaryDirectory(prefix="scgenept-rt-growth-") as temporary:
        workload = Workload((work or Path(temporary)).resolve(), 50, layers, 2, tokens, device)
        workload.prepare()
        with sgr.load(workload.bundle, provider=device) as model:
            sizes = {"variant": VARIANT, "layers": layers, "provider": model.provider, "precision": model.precision}
            rows = [time_genes(model, n_genes) for n_genes in numbers(genes)]
    save({"machine": machine(device), **sizes, "genes": rows}, json, "genes")


def time_genes(model: sgr.Predictor, n_genes: int) -> dict[str, Any]:
    """Time one cell of as many genes; more than the model's are its genes again, with values of their own."""
    dimensions = model.bundle.manifest.dimensions
    values, flags = benchmark_cells(1, n_genes, expressed=1.0)
    index = np.arange(n_genes, dtype=np.int64) % dimensions.n_table_genes
    row: dict[str, Any] = {"genes": n_genes, "gflop": encoder_flops(dimensions, n_genes) / 1e9, "problem": ""}
    # What takes minutes is not made better by a warm-up, which takes minutes too.
    n_runs, n_warm_up = (3, 1) if n_genes <= 6000 else (1, 0)
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


@app.command("rows")
def grow_rows(json: Annotated[Path, typer.Option()], rows: str = "1000,10000,100000") -> None:
    results = []
    for n_rows in numbers(rows):
        with tempfile.TemporaryDirectory() as folder:
            cells, out = Path(folder) / "cells.h5ad", Path(folder) / "out.h5ad"
            demo_control_cells(n_rows // len(PERTURBATIONS)).write_h5ad(cells)
            results.append({"rows": n_rows, **in_new_process(measure_rows, cells, out)})
        print(results[-1], flush=True)
    save({"machine": machine(), "memory": results}, json, "memory")


def measure_rows(cells: Path, out: Path) -> dict[str, Any]:
    """Predict in this process; return the sizes of memory and output in bytes."""
    model = sgr.Predictor(sgr.load("demo", provider="cpu").bundle, NoNetwork())  # with ONNX Runtime in memory
    # One small batch first: what the network itself takes is not what grows.
    model.predict_array(np.zeros((model.automatic_batch_size(), len(model.gene_names))), "FOSB+ctrl")
    before = host_peak_bytes()
    model.predict_file(cells, out, PERTURBATIONS, aggregate="cells")
    return {"opened_bytes": before, "peak_bytes": host_peak_bytes(), "output_bytes": out.stat().st_size}


class NoNetwork:
    """A session without a network: every prediction is zero."""

    provider, precision, fixed_batches = "cpu", "fp32", False

    def run(self, values: Values, *_: Flags) -> Values:
        """Return zeros of the shape of the values."""
        return np.zeros_like(values)


if __name__ == "__main__":
    app()
