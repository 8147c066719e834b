"""The proof on a GPU, rehearsed on the CPU at a small size."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.scripts import BENCHMARKS, script

SCRIPT = BENCHMARKS / "gpu" / "gpu_proof.sh"
# Commands of the package that its own tests run, and what only a GPU can show.
SKIPPED = ("verify_demo", "verify", "bench_fp32", "crowded")


@pytest.mark.rehearsal
def test_the_first_stage_runs(tmp_path: Path) -> None:
    sizes = {"KIT_GENES": "64", "KIT_LAYERS": "1", "KIT_CELLS": "2", "KIT_TOKENS": "100", "KIT_CONTROLS": "4"}
    kit = {"KIT_DEVICE": "cpu", "KIT_STATE": str(tmp_path), "KIT_PY": sys.executable, "KIT_SKIP": " ".join(SKIPPED)}
    environment = {**os.environ, **sizes, **kit, "OUT": str(tmp_path / "out")}
    done = subprocess.run(["bash", str(SCRIPT), "first"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    steps = {row["name"] for row in rows if row["step"] == "timing"}
    assert {"prepared", "predict_fp32", "compare", "kernels", "variants", "latency", "killed"} <= steps
    assert not [row for row in rows if "error" in row]
    (compared,) = (row for row in rows if row["step"] == "compare" and "max_error" in row)
    assert compared["times_fp32_tolerance"] < 1
    timed = {row["what"]: row for row in rows if row["step"] == "variants"}
    assert {"as exported", "128 genes", "no memory pattern"} <= timed.keys()
    assert all(row["max_error_to_fp32"] < 1e-4 and row["ms_per_cell"] > 0 for row in timed.values())


def test_the_second_stage_names_forms_that_exist() -> None:
    stages = re.findall(r"^  sides \w+ \d+ \S+ (\S+)$", SCRIPT.read_text(), re.MULTILINE)
    assert len(stages) == 4
    for names in stages:
        script("forms").forms_on("cuda", names.replace("$half", "fp16"))
