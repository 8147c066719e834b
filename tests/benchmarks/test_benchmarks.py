"""The scripts in benchmarks/: a small run of each, and the tables made from their results."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.benchmarks.scripts import BENCHMARKS, script


def run_script(name: str, *arguments: object, first: str = "") -> subprocess.CompletedProcess[str]:
    """Run a script; `first` is code to run before it."""
    script = str(BENCHMARKS / name)
    run = f"runpy.run_path({script!r}, run_name='__main__')"
    code = f"import runpy, sys; sys.path[0] = {str(BENCHMARKS)!r}; {first}; {run}"
    command = [sys.executable, *(["-c", code] if first else [script]), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", [path.stem for path in BENCHMARKS.glob("*.py")])
def test_scripts_import_what_there_is(name: str):
    """Those that measure are run by `make test-benchmarks`."""
    script(name)


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    return script("tables")


def made_up(device: str, **seconds: float) -> dict[str, Any]:
    """Return a result with forms that take these seconds per batch of two cells."""
    forms = [
        {
            "name": name.replace("_", "-"),
            "letter": "x",
            "what": f"form {name}",
            "precision": "fp32",
            "cells": 2,
            "seconds": [value * 0.9, value, value * 5],
            "cpu_seconds": [value * 2] * 3,
            "problem": "",
            "max_difference": 1e-6,
            "times_tolerance": 0.1,
            "passed": True,
            "opened_bytes": 50_000_000,
            "run_peak_bytes": 90_000_000,
            "peak_bytes": 100_000_000 * (1 + 9 * name.startswith("published")),
        }
        for name, value in seconds.items()
    ]
    machine = {"cpu": "Some CPU", "cpus": 2, "threads": 2, "memory_bytes": 2**34, "versions": {"torch": "2.11"}}
    if device == "cuda":
        machine |= {"gpu": {"name": "Some GPU"}, "driver": "580.1"}
    return {
        "kind": "side by side",
        "machine": machine,
        "device": device,
        "genes": 5045,
        "layers": 12,
        "cells": 2,
        "rounds": 3,
        "load_before_rounds": [0.5, 1.5],
        "tokens_computed": 4588.0 if device == "cpu" else 5045,
        "dimensions": {
            "n_genes": 5045,
            "n_table_genes": 5045,
            "d_model": 512,
            "n_layers": 12,
            "n_heads": 8,
            "d_ff": 512,
        },
        "gflop_a_cell": 816.0,
        "matrix_gflops": 200.0,
        "matrix_precision": "fp32",
        "matrix_size": 2048,
        "forms": forms,
    }


@pytest.mark.rehearsal
def test_forms_agree_and_are_timed_side_by_side(tmp_path: Path):
    names = "published,default-export-opset20,scgenept-rt-fp32"
    small = ("--layers", 1, "--genes", 60, "--tokens", 100, "--rounds", 2, "--cells", 2)
    options = ("--forms", names, "--json", tmp_path / "result.json")
    done = run_script("side_by_side.py", *small, *options, first="import matrix_rate; matrix_rate._CPU_SIZE = 256")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert [form["name"] for form in result["forms"]] == names.split(",")
    for form in result["forms"]:
        assert form["problem"] == ""
        assert form["passed"]
        assert len(form["seconds"]) == len(form["cpu_seconds"]) == 2
        assert form["peak_bytes"] >= form["opened_bytes"]
    assert result["matrix_gflops"] > 0
    # A form's process holds no other form's packages.
    memory = {form["name"]: form["peak_bytes"] for form in result["forms"]}
    assert memory["scgenept-rt-fp32"] < memory["published"] / 1.5


@pytest.mark.rehearsal
def test_growth_times_more_genes_than_the_model_has(tmp_path: Path, tables: ModuleType):
    small = ("--layers", 1, "--genes", "20,90", "--tokens", 100)
    done = run_script("growth.py", *small, "--json", tmp_path / "result.json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert [row["genes"] for row in result["genes"]] == [20, 90]
    assert "| 90 |" in tables.genes_table(result)


@pytest.mark.rehearsal
def test_scaling_runs_devices_and_processes(tmp_path: Path, tables: ModuleType):
    small = ("--rows", 800, "--devices", "1,2", "--worker-rows", 8)
    done = run_script("scaling.py", *small, "--json", tmp_path / "result.json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert [row["devices"] for row in result["devices"]] == [1, 2] * 4
    assert all(row["passes"] >= 600 for row in result["devices"] + result["host"])
    assert "of linear" in tables.devices_table(result)
    assert "| 1 process of 1 thread | 8 |" in tables.processes_table(result)


@pytest.mark.rehearsal
def test_screens_are_measured_on_a_network_trained_here(tmp_path: Path, tables: ModuleType):
    small = ("--networks", "trained", "--steps", 2, "--cells", 16, "--perturbations", 3)
    done = run_script("screens.py", *small, "--json", tmp_path / "result.json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    (network,) = result["networks"]
    whole, some, difference = network["ways"]
    assert [way["passes"] for way in network["ways"]] == [3 * 16, 3 * 8, 16 + 3 * 8]
    assert difference["rms"] < some["rms"]
    assert min(some["covered"], difference["covered"]) > 0.9
    assert min(way["seconds"] for way in network["ways"]) > 0
    assert f"(sem {whole['rms']:.1e})" in tables.screens_table(result)
    script("figure").draw_screens(result, tmp_path / "figure.svg")
    assert ">difference estimator<" in (tmp_path / "figure.svg").read_text()


def test_unknown_form_is_named_with_those_there_are():
    done = run_script("side_by_side.py", "--forms", "published,onnx")
    assert done.returncode == 1
    assert "unknown form 'onnx'" in done.stderr
    assert "scgenept-rt-fp32" in done.stderr


def test_tables_of_the_page_are_those_of_the_committed_results():
    done = run_script("tables.py", "--check")
    assert done.returncode == 0, done.stderr


def test_table_shows_medians_ratios_and_errors(tables: ModuleType):
    table = tables.side_by_side_table(made_up("cpu", published=40.0, scgenept_rt_fp32=8.0))
    published, own = table.splitlines()[2:]
    shown = ["20.00", "18.00 to 100.00", "40.00", "1.00", "41", "20%", "1,000"]
    assert [cell.strip() for cell in published.split("|")[3:10]] == shown
    assert [cell.strip() for cell in own.split("|")[3:7]] == ["4.00", "3.60 to 20.00", "8.00", "5.00"]
    assert "1.0e-06" in own
    # With identical tokens merged: 4,588 of 5,045.
    assert own.split("|")[7].strip() == f"{tables.merged_gflop(made_up('cpu')) / 4:,.0f}"


@pytest.mark.parametrize("failed", [0, 1])
def test_form_that_failed_is_a_row_with_the_reason(tables: ModuleType, failed: int):
    result = made_up("cpu", published=40.0, torch_compile=1.0)
    result["forms"][failed] |= {"problem": "its process ended (-9)", "seconds": [], "peak_bytes": None}
    head, _, *rows = tables.side_by_side_table(result).splitlines()
    assert "its process ended (-9)" in rows[failed]
    assert {row.count("|") for row in rows} == {head.count("|")}


def test_memory_of_a_gpu_has_a_column(tables: ModuleType):
    head, _, row = tables.side_by_side_table(made_up("cuda", scgenept_rt_fp16=0.2)).splitlines()
    assert "device memory, MB" in head
    assert row.count("|") == head.count("|")


def test_figure_has_a_bar_per_form(tmp_path: Path):
    measured = {"published": (20.0, 10**9), "scgenept-rt-fp32": (4.0, 10**8), "scgenept-rt-fp16": (4.5, 10**8)}
    script("figure").draw(made_up("cpu"), measured, tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text()
    for text in ("20.00 s", "4.00 s", "1,000 MB", "100 MB", "published code, as it comes"):
        assert f">{text}<" in drawn
    assert "4.50 s" not in drawn  # fp16 is not meant for a CPU
