"""How a run scales: over several devices in a process, and over several processes.

Devices are simulated: a batch sleeps 2.15 ms per cell, about what one H100 takes. Reading, filling,
means and writing are real, at the width of `demo`. It takes half an hour of an idle machine.

python benchmarks/scaling.py --json benchmarks/results/NAME.json
python benchmarks/scaling.py --rows 800 --devices 1,2 --worker-rows 16      # a try
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
import warnings
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import anndata as ad
import numpy as np
import typer

import scgenept_rt as sgr
from scgenept_rt import cluster
from scgenept_rt.bundle import Bundle
from scgenept_rt.cluster import ray_session
from scgenept_rt.demo import demo_control_cells
from scgenept_rt.files.hashing import sha256_of
from scgenept_rt.session import SeveralDevices
from shared import Flags, Values, machine, numbers, save, timed

SECONDS_PER_CELL = 0.00215
N_CELLS, BATCH_SIZE = 200, 32
AGGREGATES: dict[str, tuple[int, dict[str, Any]]] = {
    "mean": (N_CELLS, {"aggregate": "mean"}),
    "cells": (N_CELLS, {"aggregate": "cells"}),
    "mean, 16 cells each": (16, {"n_controls_per_perturbation": 16}),
    "mean, --max-error": (8, {"max_error": 0.12}),
}
"""Options, and the predictions per perturbation that they come to."""


class SimulatedDevice:
    """Takes its time, and none of the processor's, for predictions that are known at once."""

    provider, precision, fixed_batches = "cuda", "fp16", True

    def __init__(self, seconds_per_cell: float) -> None:
        self.seconds_per_cell, self.n_cells = seconds_per_cell, 0

    def run(self, values: Values, pert_flags: Flags, _: Flags) -> Values:
        """Predict a batch."""
        ended = time.perf_counter() + self.seconds_per_cell * len(values)
        self.n_cells += len(values)
        predicted = simulated(values, np.flatnonzero(pert_flags.astype(bool)))
        time.sleep(max(ended - time.perf_counter(), 0))
        return predicted


class SimulatedWorker(ray_session.Worker):
    """A worker of a Ray cluster that takes no time for predictions."""

    def run(self, values: Values, perturbed: Flags, _: Flags) -> Values:
        """Predict a batch."""
        return simulated(values, perturbed)


def simulated(values: Values, perturbed: Flags) -> Values:
    """Return predictions; effects are half as strong in cells that do not express the gene before the perturbed one."""
    predicted = np.float32(0.7) * values
    predicted.flat[perturbed] += 0.5 + 0.5 * (values.flat[perturbed - 1] > 0)
    return predicted


def time_devices(
    bundle: Bundle, cells: ad.AnnData, directory: Path, counts: list[int], n_rows: int
) -> list[dict[str, Any]]:
    """Time runs on so many devices, and once without a cost per cell: reading, filling, means and writing."""
    pairs, out, rows = pairs_of(bundle), directory / "out.h5ad", []
    for aggregate, (n_predictions, options) in AGGREGATES.items():
        labels, runs, digests = pairs[: n_rows // n_predictions], [], set()
        for n_devices, cost in ((1, 0.0), *((n_devices, SECONDS_PER_CELL) for n_devices in counts)):
            devices = {f"device {number}": SimulatedDevice(cost) for number in range(n_devices)}
            model = sgr.Predictor(bundle, SeveralDevices(devices))
            with timed() as seconds:
                model.predict_file(cells, out, labels, batch_size=BATCH_SIZE, overwrite=True, **options)
            digests.add(sha256_of(out))
            passes = sum(device.n_cells for device in devices.values())
            runs.append({"aggregate": aggregate, "devices": n_devices, "passes": passes, **seconds})
        if len(digests) > 1:
            raise SystemExit(f"{aggregate}: devices wrote different files")
        host, first, *_ = runs
        first["host"] = host["passes"] / host["cpu_seconds"]
        for row in runs[1:]:
            gain = first["seconds"] * first["devices"] / row["seconds"]
            row |= {"rate": row["passes"] / row["seconds"], "cpus": row["cpu_seconds"] / row["seconds"]}
            rows.append({**row, "gain": gain, "linear": gain / row["devices"]})
            print(f"{aggregate}, devices: {row['devices']}, {row['seconds']:.1f} s", flush=True)
    return rows


def time_driver(bundle: Bundle, cells: ad.AnnData, directory: Path, n_rows: int) -> dict[str, Any]:
    """Time the process that writes on a Ray cluster, without the workers and Ray's other processes."""
    ray_session.Worker = SimulatedWorker  # type: ignore[misc]
    labels = pairs_of(bundle)[: n_rows // N_CELLS]
    with cluster.load(bundle, address="local", workers=1, provider="cpu", check=False) as model, timed() as seconds:
        model.predict_file(cells, directory / "out.h5ad", labels, batch_size=BATCH_SIZE, overwrite=True)
    return {"case": "the process that writes, on a Ray cluster", "predictions": n_rows, **seconds}


def pairs_of(bundle: Bundle) -> list[str]:
    """Return many pairs of genes."""
    names = [name for name in bundle.manifest.gene_names if "+" not in name]
    return ["+".join(pair) for pair in combinations(names[:200], 2)]


def time_processes(directory: Path, n_rows: int) -> list[dict[str, Any]]:
    """Time the demo network in one process, in two at once, and a process that finds its part finished."""
    demo_control_cells(n_rows // 4).write_h5ad(directory / "cells.h5ad")
    genes = [name for name in Bundle.open("demo").manifest.gene_names if name.isalpha()][:4]
    labels = [argument for gene in genes for argument in ("-p", gene)]

    def start(out: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "scgenept_rt", "predict", "demo", str(directory / "cells.h5ad"), *labels]
        command += ["--out", str(directory / out), "--threads", "1", "--batch-size", "2", *arguments]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    parts = [("parts.h5ad", "--shard", f"{number}/2") for number in (1, 2)]
    cases = {
        "1 process of 1 thread": [("whole.h5ad",)],
        "2 processes of 1 thread, a part each": parts,
        "a part that is finished: the cost of a start": [(*parts[0], "--resume")],
    }
    rows = []
    for name, runs in cases.items():
        with timed(resource.RUSAGE_CHILDREN) as seconds:
            codes = [process.wait() for process in [start(*run) for run in runs]]
            if any(codes):
                raise SystemExit(f"{name}: failed")
        rows.append({"case": name, **({} if "start" in name else {"predictions": n_rows}), **seconds})
        print(f"{name}: {seconds['seconds']:.1f} s", flush=True)
    sgr.merge_shards(directory / "parts.h5ad")
    if sha256_of(directory / "parts.h5ad") != sha256_of(directory / "whole.h5ad"):
        raise SystemExit("the merged file is another one")
    return rows


def main(
    rows: Annotated[int, typer.Option(help="predictions of a run on simulated devices")] = 96_000,
    devices: str = "1,2,4,8",
    worker_rows: Annotated[int, typer.Option(help="predictions of the demo network by processes")] = 1_600,
    json: Path | None = None,
) -> None:
    bundle = Bundle.open("demo")
    cells = demo_control_cells(N_CELLS)
    warnings.simplefilter("ignore", sgr.PredictionWarning)  # of genes that are not in the vocabulary
    with tempfile.TemporaryDirectory(prefix="scgenept-rt-scaling-") as temporary:
        directory = Path(temporary)
        processes = [*time_processes(directory, worker_rows), time_driver(bundle, cells, directory, rows)]
        for row in processes:
            if "predictions" in row:
                row["rate"] = row["predictions"] / row["cpu_seconds"]
        result = {
            "machine": machine(),
            "genes": len(bundle.manifest.gene_names),
            "batch_size": BATCH_SIZE,
            "seconds_per_cell": SECONDS_PER_CELL,
            "devices": time_devices(bundle, cells, directory, numbers(devices), rows),
            "processes": processes,
        }
    save(result, json, "devices", "processes")


if __name__ == "__main__":
    typer.run(main)
