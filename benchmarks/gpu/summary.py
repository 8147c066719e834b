"""All results in `$OUT`: a short table, and one file for benchmarks/results."""

from __future__ import annotations

import json

from common import OUT

from tables import batches_table, side_by_side_table

OTHER_SIDES = ("compile", "batched", "masks")


def collect() -> None:
    """Write what the first stage measured to `proof.json`."""
    steps = [json.loads(line) for line in (OUT / "results.jsonl").read_text().splitlines()]
    benchmarks = [json.loads(file.read_text()) for file in sorted(OUT.glob("bench_*.json"))]
    # Names of kernels hold commas.
    lines = [line.split(",", 3) for line in (OUT / "kernels.csv").read_text().splitlines()[1:]]
    kernels = [{"ms": float(ms), "calls": float(calls), "name": name} for ms, calls, _, name in lines]
    for step in steps:
        step.pop("last_lines", None)  # they hold paths of the machine
    proof = {"kind": "proof on a GPU", "benchmarks": benchmarks, "kernels": kernels, "steps": steps}
    (OUT / "proof.json").write_text(json.dumps(proof, indent=1) + "\n")


def collect_sides() -> None:
    """Write what the second stage measured to `sides.json`: one table, with all rounds of a form that ran twice."""
    whole, *others = (json.loads((OUT / f"side_{name}.json").read_text()) for name in ("main", *OTHER_SIDES))
    forms = {form["name"]: form for form in whole["forms"]}
    for form in (form for other in others for form in other["forms"]):
        known = forms.setdefault(form["name"], form)
        if known is not form:
            known["seconds"] += form["seconds"]
            known["cpu_seconds"] += form["cpu_seconds"]
    whole["forms"] = sorted(forms.values(), key=lambda form: str(form["letter"]))
    whole["matrix_gflops"] = max(result["matrix_gflops"] for result in (whole, *others))
    (OUT / "sides.json").write_text(json.dumps(whole, indent=1) + "\n")


def summary() -> None:
    """Print one line per result, and the tables of both stages."""
    for line in (OUT / "results.jsonl").read_text().splitlines():
        print(line[:270])
    for file in sorted(OUT.glob("bench_*.json")):
        result = json.loads(file.read_text())
        print(f"{file.name}: attention {result['attention_kernel']}, end to end {result['end_to_end']}")
        timed = [timing for timing in result["timings"] if timing["p50_ms"]]
        print(batches_table({"benchmarks": [{**result, "timings": timed}]}))
    for file in sorted(OUT.glob("side_*.json")):
        print(file.name, side_by_side_table(json.loads(file.read_text())), sep="\n")
