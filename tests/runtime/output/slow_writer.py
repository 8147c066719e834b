"""Writes tables slowly, one forked process per job, for tests that kill it; jobs are lines of JSON on standard input.

A job has: `path`, `kind` ("mean" or "cells"), `n` (perturbations), `chunk_rows` (of a zarr store), `pause`
(seconds per write), `overwrite`, and `kill_at` (the number of the file
system call before which the process kills itself, 0 for never).
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

import numpy as np

from scgenept_rt.errors import OutputExistsError
from scgenept_rt.genes import GenePanel
from scgenept_rt.output import cells_table, layouts, mean_table, open_table
from scgenept_rt.perturbation import Perturbation

N_GENES = 6
CALLS = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


def row(number: int) -> np.ndarray:
    return np.random.default_rng(number).normal(size=N_GENES).astype(np.float32)


def kill_at(number: int) -> None:
    seen = 0

    def hook(event: str, args: tuple) -> None:
        nonlocal seen
        # of the many files of a zarr store, the chunks of X stand for the others
        if (
            event in CALLS
            and Path(args[0]).is_absolute()
            and ("data.zarr/" not in str(args[0]) or "/X/" in str(args[0]))
        ):
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    if number:
        sys.addaudithook(hook)


def write(job: dict) -> None:
    panel = GenePanel(tuple(f"G{i}" for i in range(N_GENES)), (None,) * N_GENES, np.ones(N_GENES, dtype=bool))
    perturbations = [Perturbation(f"P{i}", (f"P{i}",), (0,)) for i in range(job["n"])]
    if job["kind"] == "mean":
        spec = mean_table(perturbations, panel, 100, {"seed": 0})
    else:
        spec = cells_table(perturbations, ["c1", "c2", "c1"], panel, {"seed": 0})
    layouts._CHUNK_BYTES = 4 * N_GENES * job["chunk_rows"]
    kill_at(job.get("kill_at", 0))
    overwrite = job.get("overwrite", False)
    try:
        table = open_table(job["path"], spec, settings={"seed": 0}, overwrite=overwrite, resume=True)
    except OutputExistsError:
        return  # killed after the last step
    # a batch starts at a multiple of five rows, as batches of control cells do
    if table.n_committed < table.n_rows:
        table.rewind(table.n_committed // 5 * 5)
    while table.n_written < table.n_rows:
        numbers = range(table.n_written, min(table.n_written + 5, table.n_rows))
        X = np.stack([row(number) for number in numbers])
        layers = {name: X * (i + 2) for i, name in enumerate(spec.layers)}
        table.write(X, layers, np.array(numbers) + 1 if job["kind"] == "mean" else None)
        if numbers[0] % 3 == 0:
            table.commit()
        time.sleep(job.get("pause", 0))
    table.finish()


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                write(json.loads(line))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
