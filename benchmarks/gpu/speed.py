"""Steps that measure: every kernel of a batch, and the bare graph by number of genes and session options."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from common import BIAS_FORMS, CELLS, GENES, GPU, OUT, PRECISION, bound, feed, median_ms, note, session, tried, workload


def kernels() -> None:
    """Record the time of every kernel of one batch with PyTorch's profiler, which sees the whole process."""
    import torch

    work = workload()
    graph = bound(session(str(work.bundle / f"ort_{PRECISION}.onnx")), feed(CELLS, GENES, GENES))
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
    for kernel in found[:14]:
        print(f"{kernel['ms']:9.3f} ms {kernel['calls']:6.1f} calls  {kernel['name'][:120]}")


def variants() -> None:
    """Time the graph as exported, both forms of biases, other numbers of genes, and other options of sessions."""
    work = workload()
    source, exact = str(work.bundle / f"ort_{PRECISION}.onnx"), str(work.bundle / "ort_fp32.onnx")
    small = feed(2, GENES, GENES)
    truth = bound(session(exact, **({"use_tf32": "0"} if GPU else {})), small).output()

    def measure(what: str, opened: Any, genes: int = GENES) -> None:
        timed = median_ms(bound(opened, feed(CELLS, genes, GENES)).run)
        error = float(np.abs(bound(opened, small).output() - truth).max())
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
