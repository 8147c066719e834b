"""How the cost of a prediction grows with the number of genes, of control cells and of perturbations.

python benchmarks/growth.py --json benchmarks/results/NAME.json
python benchmarks/growth.py --layers 1 --genes 64,128 --panel 64 --cells 1,2 --perturbations 1,2 --tokens 200
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
from scgenept_rt.predictor import Predictor, load
from scgenept_rt.providers import select_provider
from tables import genes_table, growth_table
from workload import VARIANT, Workload

_DEFAULT_GENES = "512,1024,2048,5045,10000,20000"


def main() -> None:
    options = _options()
    with tempfile.TemporaryDirectory(prefix="scgenept-rt-scaling-") as temporary:
        workload = Workload(
            directory=(options.work or Path(temporary)).resolve(),
            genes=options.panel,
            layers=options.layers,
            cells=max(options.cells),
            tokens=options.tokens,
            seed=0,
            device=options.device,
        )
        workload.prepare()
        # A new session for each question, since a session keeps the memory of its largest run.
        with _open(workload) as model:
            result: dict[str, Any] = {
                "kind": "scaling",
                "machine": describe_machine(select_provider(provider=options.device), threads=None, driver=None),
                "provider": model.provider,
                "precision": model.precision,
                "variant": VARIANT,
                "layers": options.layers,
                "panel": options.panel,
                "cells": [time_predict(model, workload, n_cells, 1) for n_cells in options.cells],
            }
        with _open(workload) as model:
            result["perturbations"] = [
                time_predict(model, workload, options.cells[0], number) for number in options.perturbations
            ]
        with _open(workload) as model:
            result["genes"] = [time_genes(model, n_genes) for n_genes in options.genes]
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(genes_table(result), growth_table(result, "cells"), growth_table(result, "perturbations"), sep="\n\n")


def _open(workload: Workload) -> Predictor:
    return load(workload.bundle, provider=workload.device)


def time_genes(model: Predictor, n_genes: int) -> dict[str, Any]:
    """Time one cell of as many genes; more than the model's are its genes again, with values of their own."""
    from scgenept_rt.errors import InferenceError

    dimensions = model.bundle.manifest.dimensions
    values, flags = benchmark_cells(1, n_genes, expressed=1.0)
    index = np.arange(n_genes, dtype=np.int64) % dimensions.n_table_genes
    row: dict[str, Any] = {"genes": n_genes, "gflop": encoder_flops(dimensions, n_genes) / 1e9, "problem": ""}
    reset_host_peak()
    try:
        # What takes minutes is not made better by a warm-up, which takes minutes too.
        found = _best(lambda: model.session.run(values, flags, index), warm_up=n_genes <= 6000)
    except (MemoryError, InferenceError) as error:
        return row | {"problem": "out of memory" if isinstance(error, MemoryError) else str(error)}
    print(f"{n_genes:,} genes: {found['seconds']:.2f} s", flush=True)
    return row | found


def time_predict(model: Predictor, workload: Workload, n_cells: int, n_perturbations: int) -> dict[str, Any]:
    """Time `predict` with the mean over control cells, from an AnnData in memory."""
    import anndata

    names = workload.gene_names()
    cells = anndata.read_h5ad(workload.h5ad)[:n_cells].copy()
    labels = [f"{names[i]}+ctrl" for i in range(n_perturbations)]
    reset_host_peak()
    found = _best(lambda: model.predict(cells, labels), warm_up=True)
    print(f"{n_cells} cells, {n_perturbations} perturbations: {found['seconds']:.2f} s", flush=True)
    return {"cells": n_cells, "perturbations": n_perturbations, **found}


def _best(run: Any, *, warm_up: bool, repeats: int = 2) -> dict[str, Any]:
    if warm_up:
        run()
    timed = []
    for _ in range(repeats if warm_up else 1):
        begin, cpu_begin = time.perf_counter(), time.process_time()
        run()
        timed.append((time.perf_counter() - begin, time.process_time() - cpu_begin))
    seconds, cpu_seconds = (min(figures) for figures in zip(*timed, strict=True))
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_bytes": host_peak_bytes()}


def _options() -> argparse.Namespace:
    def numbers(text: str) -> list[int]:
        return [int(part) for part in text.split(",")]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--genes", type=numbers, default=numbers(_DEFAULT_GENES))
    parser.add_argument("--panel", type=int, default=1000, help="genes of the bundle that predicts cells")
    parser.add_argument("--cells", type=numbers, default=[4, 8, 16, 32])
    parser.add_argument("--perturbations", type=numbers, default=[1, 2, 4, 8])
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=4096, help="rows of the checkpoint's embedding tables")
    parser.add_argument("--work", type=Path, help="directory for checkpoint and bundle, kept for the next run")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
