"""Peak memory of `predict` against the number of predicted rows: it must not grow.

Each size runs in a process of its own, from an .h5ad of control cells to an .h5ad of predicted cells over the demo
bundle's 5,045 genes. With `--network demo` the demo network predicts (about 40 ms per cell on two cores: 100,000 rows
take an hour or more); with `--network none` a session that returns zeros stands in for it, so that sizes can
be measured that would take days: everything else (reading, batches, writing) is the same.

    python benchmarks/peak_memory.py --network none --rows 1000 10000 100000 --json benchmarks/results/peak_memory.json
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

DENSITY = 0.08
PERTURBATIONS = ["FOSB+ctrl", "SAMD1+ZBTB1", "CDKN1B+ctrl", "FOXA1+FOXL2"]


class NoNetwork:
    """A session without a network: every prediction is zero."""

    provider, precision, fixed_batches = "cpu", "fp32", False

    def run(self, values: NDArray[np.float32], *_: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return zeros of the shape of the values."""
        return np.zeros_like(values)


def write_control_cells(path: Path, n_cells: int) -> None:
    """Write control cells of the demo bundle's genes as CSR, block by block."""
    import anndata
    import pandas as pd
    from scipy.sparse import csr_matrix

    from scgenept_rt.bundle import Bundle

    names = Bundle.open("demo", check_files=False).manifest.gene_names
    obs = pd.DataFrame({"condition": pd.Categorical(["ctrl"] * n_cells)}, index=[f"c{i}" for i in range(n_cells)])
    empty = csr_matrix((n_cells, len(names)), dtype=np.float32)
    anndata.AnnData(empty, obs=obs, var=pd.DataFrame(index=list(names))).write_h5ad(path)
    rng = np.random.default_rng(0)
    per_cell = int(DENSITY * len(names))
    with h5py.File(path, "r+") as file:
        group = file["X"]
        for name, dtype in (("data", "f4"), ("indices", "i4")):
            del group[name]
            group.create_dataset(name, (n_cells * per_cell,), dtype=dtype, chunks=(1 << 18,))
        group["indptr"][:] = np.arange(n_cells + 1) * per_cell
        for begin in range(0, n_cells, 1000):
            n = min(1000, n_cells - begin)
            columns = np.sort(rng.random((n, len(names))).argpartition(per_cell, axis=1)[:, :per_cell], axis=1)
            span = slice(begin * per_cell, (begin + n) * per_cell)
            group["indices"][span] = columns.ravel()
            group["data"][span] = rng.gamma(2.0, 0.6, n * per_cell)


def measure(network: str, cells: Path, out: Path, n_perturbations: int) -> dict[str, Any]:
    """Predict in this process and return its peak memory, over that of a loaded model."""
    import scgenept_rt as sgr
    from scgenept_rt.predictor import Predictor

    model = sgr.load("demo", provider="cpu")
    if network == "none":
        model = Predictor(model.bundle, NoNetwork())
    # One small batch first: what the network itself takes is not what grows.
    model.predict_array(np.zeros((model.automatic_batch_size(), len(model.gene_names))), "FOSB+ctrl")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    model.predict_file(cells, out, PERTURBATIONS[:n_perturbations], aggregate="cells")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "peak_mb": round(peak),
        "beyond_model_mb": round(peak - before),
        "output_mb": round(out.stat().st_size / 1e6),
    }


def main() -> None:
    """Measure each size in a fresh process and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--network", choices=["demo", "none"], default="none")
    parser.add_argument("--perturbations", type=int, choices=range(1, 5), default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, metavar=("CELLS", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        cells, out = map(Path, options.child)
        print(json.dumps(measure(options.network, cells, out, options.perturbations)))
        return
    results = []
    print(
        "| predicted rows | output, MB | peak memory, MB | beyond the loaded model, MB |\n| ---: | ---: | ---: | ---: |"
    )
    for rows in options.rows:
        with tempfile.TemporaryDirectory() as folder:
            cells, out = Path(folder) / "cells.h5ad", Path(folder) / "out.h5ad"
            write_control_cells(cells, rows // options.perturbations)
            own = [f"--network={options.network}", f"--perturbations={options.perturbations}"]
            command = [sys.executable, __file__, *own, "--child", str(cells), str(out)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        results.append({"rows": rows, "network": options.network, **found})
        print(
            f"| {rows:,} | {found['output_mb']:,} | {found['peak_mb']:,} | {found['beyond_model_mb']:,} |", flush=True
        )
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
