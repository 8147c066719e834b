"""Steps that measure: every kernel of a batch, and the bare graph by number of genes and session options."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from common import BIAS_FORMS, CELLS, GENES, GPU, OUT, PRECISION, Bound, feed, median_ms, note, session, tried, workload


def kernels() -> None:
    """Record the time of every kernel of one batch with PyTorch's profiler, which sees the whole process."""
    import torch

    work = workload()
    bound = Bound(session(str(work.bundle / f"ort_{PRECISION}.onnx")), feed(CELLS, GENES, GENES))
    runs = 3
    for _ in range(3):
        bound.run()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if GPU:
        torch.zeros(1, device="cuda")
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(runs):
            bound.run()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "trace.json"
        profile.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    spans = [e for e in events if e.get("ph") == "X" and e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    total, count = Counter(), Counter()
    for event in spans:
        total[event["name"]] += event["dur"]
        count[event["name"]] += 1
    begins = [e["ts"] for e in spans]
    wall = max((e["ts"] + e["dur"] for e in spans), default=0) - min(begins, default=0)
    note(
        "kernels", kinds=len(total), kernel_ms=sum(total.values()) / 1e3 / runs, wall_ms=wall / 1e3 / runs, cells=CELLS
    )
    with (OUT / "kernels.csv").open("w") as file:
        file.write("ms_per_batch,calls_per_batch,us_per_call,name\n")
        for name, us in total.most_common():
            row = f"{us / 1e3 / runs:.4f},{count[name] / runs:.1f},{us / count[name]:.1f},{name[:240]!r}"
            file.write(row + "\n")
    for name, us in total.most_common(14):
        print(f"{us / 1e3 / runs:9.3f} ms {count[name] / runs:6.1f} calls {us / count[name]:9.1f} us  {name[:120]}")


def variants() -> None:
    """Time the graph as exported, both forms of biases, other numbers of genes, and other options of sessions."""
    work = workload()
    source, exact = str(work.bundle / f"ort_{PRECISION}.onnx"), str(work.bundle / "ort_fp32.onnx")
    small = feed(2, GENES, GENES)
    truth = Bound(session(exact, **({"use_tf32": "0"} if GPU else {})), small).output()

    def measure(what: str, opened: Any, genes: int = GENES) -> None:
        timed = median_ms(Bound(opened, feed(CELLS, genes, GENES)).run)
        error = float(np.abs(Bound(opened, small).output() - truth).max())
        per_cell = {f"{name}_per_cell": value / CELLS for name, value in timed.items()}
        note("variants", what=what, max_error_to_fp32=error, **per_cell)

    exported = session(source)
    tried("variants", "as exported", lambda: measure("as exported", exported))
    for form, graph in BIAS_FORMS.items():
        tried("variants", form, lambda form=form, graph=graph: measure(form, session(str(graph))))
    for genes in (4549, 4608, 5040, 5048, 5056, 5120) if GPU else (64, 128):
        tried("variants", f"{genes} genes", lambda genes=genes: measure(f"{genes} genes", exported, genes))
    options: dict[str, dict[str, Any]] = {"no memory pattern": {"pattern": False}}
    if GPU:
        options["arena as requested"] = {"arena_extend_strategy": "kSameAsRequested"}
        options["tunable products"] = {"tunable_op_enable": "1", "tunable_op_tuning_enable": "1"}
    for what, given in options.items():
        tried("variants", what, lambda what=what, given=given: measure(what, session(source, **given)))
