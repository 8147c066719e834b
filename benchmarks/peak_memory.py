"""Peak memory of `predict` against the number of predicted rows: it must not grow.

Each size runs in a process of its own, from an .h5ad of control cells to an .h5ad of predicted cells over the demo
bundle's 5,045 genes. A session that returns zeros stands in for the network, so that sizes can be measured that would
take days: everything else (reading, batches, writing) is the same.

    python benchmarks/peak_memory.py --json benchmarks/results/cpu-NAME-memory.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scgenept_rt.benchmark.machine import describe_machine
from scgenept_rt.benchmark.memory import host_peak_bytes
from scgenept_rt.demo import demo_control_cells
from scgenept_rt.providers import select_provider

PERTURBATIONS = ["FOSB+ctrl", "SAMD1+ZBTB1", "CDKN1B+ctrl", "FOXA1+FOXL2"]


class NoNetwork:
    """A session without a network: every prediction is zero."""

    provider, precision, fixed_batches = "cpu", "fp32", False

    def run(self, values: NDArray[np.float32], *_: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return zeros of the shape of the values."""
        return np.zeros_like(values)


def measure(cells: Path, out: Path) -> dict[str, Any]:
    """Predict in this process; return the sizes of memory and output in bytes."""
    import scgenept_rt as sgr
    from scgenept_rt.predictor import Predictor

    model = Predictor(sgr.load("demo", provider="cpu").bundle, NoNetwork())
    # One small batch first: what the network itself takes is not what grows.
    model.predict_array(np.zeros((model.automatic_batch_size(), len(model.gene_names))), "FOSB+ctrl")
    before = host_peak_bytes()
    model.predict_file(cells, out, PERTURBATIONS, aggregate="cells")
    return {"opened_bytes": before, "peak_bytes": host_peak_bytes(), "output_bytes": out.stat().st_size}


def main() -> None:
    """Measure each size in a fresh process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--child", nargs=2, metavar=("CELLS", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(*map(Path, options.child))))
        return
    results = []
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            cells, out = Path(folder) / "cells.h5ad", Path(folder) / "out.h5ad"
            demo_control_cells(rows // len(PERTURBATIONS)).write_h5ad(cells)
            command = [sys.executable, __file__, "--json", str(options.json), "--child", str(cells), str(out)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        results.append({"rows": rows, **found})
        print(results[-1], flush=True)
    machine = describe_machine(select_provider(provider="cpu"))
    result = {"kind": "peak memory", "machine": machine, "memory": results}
    options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
