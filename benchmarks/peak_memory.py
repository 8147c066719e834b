"""Peak memory of `predict` against the number of predicted rows: it must not grow.

Each size runs in a process of its own, from an .h5ad of control cells to an .h5ad of predicted cells over the demo
bundle's 5,045 genes. A session that returns zeros stands in for the network, so that sizes can be measured that would
take days: everything else (reading, batches, writing) is the same.

    python benchmarks/peak_memory.py --json benchmarks/results/cpu-NAME-memory.json
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

import scgenept_rt as sgr
from scgenept_rt.benchmark.machine import host_peak_bytes
from scgenept_rt.demo import demo_control_cells
from shared import in_new_process, machine, numbers, save

PERTURBATIONS = ["FOSB+ctrl", "SAMD1+ZBTB1", "CDKN1B+ctrl", "FOXA1+FOXL2"]


class NoNetwork:
    """A session without a network: every prediction is zero."""

    provider, precision, fixed_batches = "cpu", "fp32", False

    def run(self, values: NDArray[np.float32], *_: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return zeros of the shape of the values."""
        return np.zeros_like(values)


def measure(cells: Path, out: Path) -> dict[str, Any]:
    """Predict in this process; return the sizes of memory and output in bytes."""
    model = sgr.Predictor(sgr.load("demo", provider="cpu").bundle, NoNetwork())
    # One small batch first: what the network itself takes is not what grows.
    model.predict_array(np.zeros((model.automatic_batch_size(), len(model.gene_names))), "FOSB+ctrl")
    before = host_peak_bytes()
    model.predict_file(cells, out, PERTURBATIONS, aggregate="cells")
    return {"opened_bytes": before, "peak_bytes": host_peak_bytes(), "output_bytes": out.stat().st_size}


def main(json: Annotated[Path, typer.Option()], rows: str = "1000,10000,100000") -> None:
    results = []
    for n_rows in numbers(rows):
        with tempfile.TemporaryDirectory() as folder:
            cells, out = Path(folder) / "cells.h5ad", Path(folder) / "out.h5ad"
            demo_control_cells(n_rows // len(PERTURBATIONS)).write_h5ad(cells)
            results.append({"rows": n_rows, **in_new_process(measure, cells, out)})
        print(results[-1], flush=True)
    save({"machine": machine(), "memory": results}, json, "memory")


if __name__ == "__main__":
    typer.run(main)
