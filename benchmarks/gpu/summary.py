"""All results in `$OUT`: a short table, and one file for benchmarks/results."""

from __future__ import annotations

import json
import statistics
from typing import Any

from common import OUT

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
    """Print one line per result."""
    rows = [json.loads(line) for line in (OUT / "results.jsonl").read_text().splitlines()]
    for row in rows:
        if row["step"] != "timing":
            print(f"{row['step']:9s} {_fields(row)[:260]}")
    for row in rows:
        if row["step"] == "timing":
            print(f"timing    {row['name']:22s} rc {row['rc']:3d} {row['seconds']:6.1f} s")
    for file in sorted(OUT.glob("bench_*.json")):
        result = json.loads(file.read_text())
        print(f"{file.name}: {result['reference']['precision']}, attention {result['attention_kernel']}")
        for timing in result["timings"]:
            print(f"  batch {timing['batch_size']:4d} {_timing(timing)}")
        print("  end to end", result["end_to_end"])
    for file in sorted(OUT.glob("side_*.json")):
        for form in json.loads(file.read_text())["forms"]:
            print(f"{file.name}: {form['name']:24s} {_form(form)}")


def _fields(row: dict[str, Any]) -> str:
    return " ".join(
        f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}"
        for key, value in row.items()
        if key != "step"
    )


def _timing(timing: dict[str, Any]) -> str:
    if not timing["p50_ms"]:
        return str(timing["problem"])[:160]
    per_cell, gigabytes = timing["p50_ms"] / timing["batch_size"], (timing["peak_device_bytes"] or 0) / 1e9
    return f"{per_cell:8.3f} ms per cell {timing['cells_per_second']:7.1f} cells/s {gigabytes:.2f} GB"


def _form(form: dict[str, Any]) -> str:
    if not form["seconds"]:
        return str(form["problem"])[:160]
    ms = statistics.median(form["seconds"]) / form["cells"] * 1e3
    gigabytes = (form.get("device_bytes") or 0) / 1e9
    return f"{ms:9.3f} ms per cell {1e3 / ms:7.1f} cells/s, error {form['max_difference']:.2e}, {gigabytes:.1f} GB"
