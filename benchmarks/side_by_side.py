"""All forms of the same prediction side by side: the published way, PyTorch at its best, ONNX Runtime, scgenept-rt.

Each form has its own process. All are opened, and their outputs compared with PyTorch's fp32, before anything is
timed; then they take turns, round by round, so that a machine that gets busier or slower does so for all of them.

    python benchmarks/side_by_side.py --json benchmarks/results/NAME.json
    python benchmarks/side_by_side.py --layers 1 --genes 300 --tokens 400 --rounds 1     # a try in a minute
    python benchmarks/side_by_side.py --device cuda --cells 32 --rounds 11 --json benchmarks/results/NAME.json
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Annotated, Any, Literal

import numpy as np
import typer

from forms import Form, forms_on
from matrix_rate import MatrixProduct
from scgenept_rt.benchmark import encoder_flops
from scgenept_rt.bundle import Bundle
from scgenept_rt.session.token_merging import merge_tokens, shares_token
from shared import machine, save
from workload import VARIANT, Workload


class FormProcess:
    """Opens and checks a form in a process of its own, and keeps its answers."""

    def __init__(self, form: Form, workload: Workload) -> None:
        self.result: dict[str, Any] = {
            "name": form.name,
            "letter": form.letter,
            "what": (workload.device == "cuda" and form.cuda) or form.cpu,
            "precision": form.precision_on(workload.device),
            "cells": form.cells_of(workload),
            "seconds": [],
            "cpu_seconds": [],
            "problem": "",
        }
        command = [sys.executable, str(Path(__file__).with_name("forms.py")), form.name, str(workload.directory)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        found = self.result
        found |= self.ask("check")
        error = found["problem"] or (
            f"largest difference {found['max_difference']:.2e}, {found['times_tolerance']:.2f} of the tolerance"
        )
        print(f"{form.letter:>2}  {form.name}: {error}", flush=True)

    def ask(self, what: str) -> dict[str, Any]:
        """Ask the process to run; what goes wrong becomes the form's `problem`."""
        if self.result["problem"]:
            return {}
        try:
            self._process.stdin.write(what + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        answer = json.loads(line) if line else {"problem": f"its process ended ({self._process.wait()})"}
        self.result["problem"] = answer.pop("problem", "")
        return answer

    def end(self) -> dict[str, Any]:
        """End the process and return the form's figures."""
        self.result |= self.ask("end")
        self._process.stdin.close()
        self._process.wait()
        return self.result


def main(
    device: Literal["cpu", "cuda"] = "cpu",
    genes: int = 5045,
    layers: int = 12,
    cells: Annotated[int, typer.Option(help="cells per batch (default: 2 on a CPU, 32 on a GPU)")] = 0,
    tokens: Annotated[int, typer.Option(help="rows of the checkpoint's embedding tables")] = 60_697,
    rounds: int = 3,
    forms: Annotated[str, typer.Option(help="names, separated by commas (default: all)")] = "",
    work: Annotated[Path | None, typer.Option(help="directory for checkpoint and bundle, kept")] = None,
    result_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    chosen = forms_on(device, forms)
    with tempfile.TemporaryDirectory(prefix="scgenept-rt-benchmark-") as temporary:
        directory = (work or Path(temporary)).resolve()
        workload = Workload(directory, genes, layers, cells or (32 if device == "cuda" else 2), tokens, device)
        workload.prepare()
        result = compare_forms(workload, chosen, rounds)
    save(result, result_file, "forms")
    if any(form.get("passed") is False for form in result["forms"]):
        raise SystemExit("error: a form's output is not within its tolerance")


def compare_forms(workload: Workload, chosen: list[Form], rounds: int) -> dict[str, Any]:
    """Open, check and time the forms, and return everything that was found."""
    product = MatrixProduct(workload.device)
    manifest = Bundle.open(workload.bundle, check_files=False).manifest
    rates = [product.best_gflops()]
    loads, forms = [], []
    # Forms that take turns keep their memory: on a GPU, where one may need all of it, each ends before the next.
    groups = [[form] for form in chosen] if workload.device != "cpu" else [chosen]
    for group in groups:
        processes = [FormProcess(form, workload) for form in group]
        for number in range(rounds):
            loads.append(os.getloadavg()[0])
            # Another order in each round, so that no form always comes after the same one.
            for process in (*processes[number % len(processes) :], *processes[: number % len(processes)]):
                for name, value in process.ask("time").items():
                    process.result[name].append(value)
            rates.append(product.best_gflops())
            print(f"round {number + 1} of {rounds} done", flush=True)
        forms += [process.end() for process in processes]
    cells = zip(workload.array("values"), workload.array("pert_flags"), strict=True)
    n_merged = np.mean([len(merge_tokens(*cell, shares_token(manifest))[0]) for cell in cells])
    for form, found in zip(chosen, forms, strict=True):
        n_tokens = round(n_merged) if form.merges and workload.device == "cpu" else workload.genes
        found["gflop_a_cell"] = encoder_flops(manifest.dimensions, n_tokens) / 1e9
    described = machine(workload.device)
    described["versions"]["torch"] = metadata.version("torch")
    result = {
        "machine": described,
        "variant": VARIANT,
        **workload.settings(),
        "non_zero": float((workload.array("values") != 0).mean()),
        "tokens_computed": float(n_merged),
        "rounds": rounds,
        "load_before_rounds": loads,
        "dimensions": asdict(manifest.dimensions),
        "matrix_gflops": max(rates),
        "matrix_precision": product.precision,
        "matrix_size": product.size,
        "forms": forms,
    }
    add_rates(result)
    return result


def add_rates(result: dict[str, Any]) -> None:
    """Add to each form that was timed what its times come to: per cell, as rates, and against the published way."""
    result["unit"], scale = ("s", 1) if result["device"] == "cpu" else ("ms", 1e3)
    timed = {form["name"]: form for form in result["forms"] if form["seconds"] and not form["problem"]}
    for form in timed.values():
        per_cell = [seconds / form["cells"] * scale for seconds in form["seconds"]]
        form |= {"per_cell": median(per_cell), "fastest": min(per_cell), "slowest": max(per_cell)}
        form["cpu_per_cell"] = median(form["cpu_seconds"]) / form["cells"] * scale
        form["rate"] = form["gflop_a_cell"] / form["per_cell"] * scale
        form["of_matrix"] = form["rate"] / result["matrix_gflops"]
        form["gain"] = timed["published"]["per_cell"] / form["per_cell"] if "published" in timed else None


if __name__ == "__main__":
    typer.run(main)
