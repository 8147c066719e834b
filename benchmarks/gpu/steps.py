"""The steps of `gpu_proof.sh`: `python steps.py STEP ...`. See README.md.

Each figure is appended to $OUT/results.jsonl as soon as it is known. A measurement that fails is a line there too, and
the rest goes on. The last steps put all results in $OUT together.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import BIAS_FORMS, CELLS, DEVICE, GENES, GPU, OUT, PRECISION, WORKLOAD, feed, median_ms, note, tried
from proof import big, compare, crowded, killed, latency, prepare

from shared import Bound, open_graph
from side_by_side import add_rates
from tables import table

session = partial(open_graph, device=DEVICE, whole=True)
bound = partial(Bound, output="predicted", device=DEVICE)
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


def kernels() -> None:
    """Record the time of every kernel of one batch with PyTorch's profiler, which sees the whole process."""
    import torch

    graph = bound(session(WORKLOAD.bundle / f"ort_{PRECISION}.onnx"), feed(CELLS))
    runs = 3
    for _ in range(3):
        graph.run()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if GPU:
        torch.zeros(1, device="cuda")
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(runs):
            graph.run()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    spans = [e for e in events if e.get("ph") == "X" and e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    total, count = Counter(), Counter()
    for event in spans:
        total[event["name"]] += event["dur"] / 1e3 / runs
        count[event["name"]] += 1 / runs
    begins, ends = [e["ts"] for e in spans], [e["ts"] + e["dur"] for e in spans]
    wall = (max(ends, default=0) - min(begins, default=0)) / 1e3 / runs
    note("kernels", kinds=len(total), kernel_ms=sum(total.values()), wall_ms=wall, cells=CELLS)
    found = [{"ms": ms, "calls": round(count[name], 2), "name": name[:240]} for name, ms in total.most_common()]
    (OUT / "kernels.json").write_text(json.dumps(found))


def variants() -> None:
    """Time the graph as exported, both forms of biases, other numbers of genes, and other options of sessions."""
    source, exact = WORKLOAD.bundle / f"ort_{PRECISION}.onnx", WORKLOAD.bundle / "ort_fp32.onnx"
    small = feed(2)
    truth = bound(session(exact, **({"use_tf32": "0"} if GPU else {})), small).output()

    def measure(what: str, graph: Path = source, genes: int = GENES, **options: Any) -> None:
        opened = session(graph, **options)
        timed = median_ms(bound(opened, feed(CELLS, genes)).run)
        error = float(np.abs(bound(opened, small).output() - truth).max())
        per_cell = {f"{name}_per_cell": value / CELLS for name, value in timed.items()}
        note("variants", what=what, max_error_to_fp32=error, **per_cell)

    cases: dict[str, dict[str, Any]] = {"as exported": {}}
    cases |= {form: {"graph": graph} for form, graph in BIAS_FORMS.items()}
    cases |= {f"{n} genes": {"genes": n} for n in ((4549, 4608, 5040, 5048, 5056, 5120) if GPU else (64, 128))}
    cases["no memory pattern"] = {"pattern": False}
    if GPU:
        cases["arena as requested"] = {"arena_extend_strategy": "kSameAsRequested"}
        cases["tunable products"] = {"tunable_op_enable": "1", "tunable_op_tuning_enable": "1"}
    for what, given in cases.items():
        tried("variants", what, partial(measure, what, **given))


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
