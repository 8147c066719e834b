"""One form in its own process, which runs when standard input asks: `check`, `time` or `end`, one word per line.

Answers with one line of JSON each. A form that waits uses no processor, so the processes of all forms stay open and
take turns.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from forms import Form, cells_of, form_named
from scgenept_rt.benchmark.memory import process_bytes, reset_host_peak
from scgenept_rt.bundle import Bundle
from scgenept_rt.providers.devices import gpu_memory
from shared import timed
from workload import Workload

_LEAST_ON_GPU = 0.5
"""Seconds of runs per round: a single batch just after another process used the GPU takes up to 15% longer."""


def main() -> None:
    # Libraries print to standard output as they like: answers go to a copy of it.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(fields: dict[str, Any]) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    form, workload = form_named(sys.argv[1]), Workload.open(Path(sys.argv[2]))
    gpu = None if workload.device == "cpu" else 0
    memory_before = gpu_memory(gpu)
    try:
        begin = time.perf_counter()
        predict = form.open(workload)
        opened = {
            "open_seconds": time.perf_counter() - begin,
            "opened_bytes": process_bytes("VmRSS"),
            "open_peak_bytes": process_bytes("VmHWM"),
        }
        # Opening may take more than a run does: from here on the peak is that of runs.
        reset_host_peak()
        for line in sys.stdin:
            match line.strip():
                case "check":
                    begin = time.perf_counter()
                    predicted = predict()
                    seconds = time.perf_counter() - begin
                    memory = gpu_memory(gpu)
                    device = memory.used - memory_before.used if memory and memory_before else None
                    checked = compare(form, workload, predicted)
                    answer({**opened, "first_seconds": seconds, **checked, "device_bytes": device})
                case "time":
                    begin, runs = time.perf_counter(), 0
                    with timed() as seconds:
                        while not runs or (workload.device != "cpu" and time.perf_counter() < begin + _LEAST_ON_GPU):
                            predict()
                            runs += 1
                    answer({name: value / runs for name, value in seconds.items()})
                case "end":
                    # Not getrusage's: that begins with the peak of the process that started this one.
                    run_peak, open_peak = process_bytes("VmHWM"), opened["open_peak_bytes"]
                    answer({"run_peak_bytes": run_peak, "peak_bytes": max(run_peak or 0, open_peak or 0) or None})
                    return
    except Exception as error:  # whatever a form raises is its result
        answer({"problem": f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"})


def compare(form: Form, workload: Workload, predicted: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Compare with the fp32 reference, with the tolerance of the form's precision in the bundle."""
    tolerance = Bundle.open(workload.bundle, check_files=False).manifest.tolerances[form.precision_on(workload.device)]
    expected = workload.array("expected")[: cells_of(form, workload)]
    comparison = tolerance.compare(predicted[: len(expected)], expected)
    return {
        "max_difference": comparison.max_difference,
        "max_relative": comparison.max_relative,
        "times_tolerance": comparison.worst,
        "passed": bool(comparison.passed),
    }


if __name__ == "__main__":
    main()
