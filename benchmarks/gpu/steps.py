"""The steps of `gpu_proof.sh`: `python steps.py STEP ...`. See README.md.

Each figure is appended to $OUT/results.jsonl as soon as it is known. A measurement that fails is a line there too, and
the rest goes on. The last steps put all results in $OUT together.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from common import OUT
from proof import big, compare, crowded, killed, latency, prepare
from speed import kernels, variants

from side_by_side import add_rates
from tables import table

OTHER_SIDES = ("compile", "batched", "masks")
KERNELS = {
    "sdpa": "attention (cuDNN)",
    "nvjet": "matrix products (cuBLAS)",
    "SkipLayerNorm": "residual and norm",
    "OP_Max": "bias and ReLU",
    "OP_Add": "other additions",
    "": "all others",
}
"""What part of a kernel's name tells what it does; the first that fits."""


def collect() -> None:
    """Write what the first stage measured to `proof.json`."""
    steps = [json.loads(line) for line in (OUT / "results.jsonl").read_text().splitlines()]
    for step in steps:
        step.pop("last_lines", None)  # they hold paths of the machine
    kernels = _read(OUT / "kernels.json")
    proof = {
        "benchmarks": [_read(file) for file in sorted(OUT.glob("bench_*.json"))],
        "kernels": kernels,
        "kinds": kinds_of(kernels),
        "graphs": [step for step in steps if step["step"] == "variants"],
        "steps": [step for step in steps if step["step"] != "variants"],
    }
    (OUT / "proof.json").write_text(json.dumps(proof, indent=1) + "\n")


def kinds_of(kernels: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return where the time of a batch goes, by what kernels do."""
    sums: dict[str, Counter[str]] = {}
    for kernel in kernels:
        kind = next(what for part, what in KERNELS.items() if part in kernel["name"])
        sums.setdefault(kind, Counter()).update({"calls": kernel["calls"], "ms": kernel["ms"]})
    whole = sum(kernel["ms"] for kernel in kernels)
    return [
        {"kind": kind, **found, "us": found["ms"] / found["calls"] * 1e3, "share": found["ms"] / whole}
        for kind, found in sums.items()
    ]


def collect_sides() -> None:
    """Write what the second stage measured to `sides.json`: one table, with all rounds of a form that ran twice."""
    whole, *others = (_read(OUT / f"side_{name}.json") for name in ("main", *OTHER_SIDES))
    forms = {form["name"]: form for form in whole["forms"]}
    for form in (form for other in others for form in other["forms"]):
        known = forms.setdefault(form["name"], form)
        if known is not form:
            known["seconds"] += form["seconds"]
            known["cpu_seconds"] += form["cpu_seconds"]
    whole["forms"] = sorted(forms.values(), key=lambda form: str(form["letter"]))
    whole["matrix_gflops"] = max(result["matrix_gflops"] for result in (whole, *others))
    add_rates(whole)
    (OUT / "sides.json").write_text(json.dumps(whole, indent=1) + "\n")


def summary() -> None:
    """Print one line per result, and the tables of both stages."""
    for line in (OUT / "results.jsonl").read_text().splitlines():
        print(line[:270])
    for file in sorted(OUT.glob("bench_*.json")):
        result = _read(file)
        print(f"{file.name}: attention {result['attention_kernel']}, end to end {result['end_to_end']}")
        print(table({"benchmarks": [result]}, "benchmarks.timings"))
    for file in sorted(OUT.glob("side_*.json")):
        print(file.name, table(_read(file), "forms"), sep="\n")


def _read(file: Path) -> Any:
    return json.loads(file.read_text())


STEPS = (prepare, compare, kernels, variants, latency, killed, big, crowded)
SUMMARIES = (collect, collect_sides, summary)

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    {step.__name__: step for step in (*STEPS, *SUMMARIES)}[name](*arguments)
