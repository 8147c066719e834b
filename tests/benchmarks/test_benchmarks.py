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


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    """Sizes of one layer, whose checkpoint and bundle are made once."""
    return ("--layers", 1, "--tokens", 100, "--work", tmp_path_factory.mktemp("workload"))


@pytest.mark.rehearsal
def test_forms_agree_and_are_timed_side_by_side(tmp_path: Path, small: tuple[object, ...]):
    names = "published,default-export-opset20,scgenept-rt-fp32"
    options = ("--genes", 50, "--rounds", 2, "--forms", names, "--json", tmp_path / "result.json")
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
def test_growth_times_more_genes_than_the_model_has(tmp_path: Path, tables: ModuleType, small: tuple[object, ...]):
    done = run_script("growth.py", "genes", *small, "--genes", "20,90", "--json", tmp_path / "result.json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert [row["genes"] for row in result["genes"]] == [20, 90]
    assert "| 90 |" in tables.table(result, "genes")


@pytest.mark.rehearsal
def test_scaling_runs_devices_and_processes(tmp_path: Path, tables: ModuleType):
    small = ("--rows", 400, "--devices", "1,2", "--worker-rows", 8)
    done = run_script("scaling.py", *small, "--json", tmp_path / "result.json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert [row["devices"] for row in result["devices"]] == [1, 2] * 4
    assert all(row["passes"] >= 300 for row in result["devices"])
    assert "of linear" in tables.table(result, "devices")
    assert "| 1 process of 1 thread | 8 |" in tables.table(result, "processes")


@pytest.mark.rehearsal
def test_screens_are_measured_on_a_network_trained_here(tmp_path: Path, tables: ModuleType):
    small = ("--networks", "trained", "--steps", 2, "--cells", 16, "--perturbations", 3)
    done = run_script("screens.py", *small, "--json", tmp_path / "result.json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    (network,) = result["networks"]
    _, some, difference = network["ways"]
    assert [way["passes"] for way in network["ways"]] == [3 * 16, 3 * 8, 16 + 3 * 8]
    assert difference["rms"] < some["rms"]
    assert min(some["covered"], difference["covered"]) > 0.9
    assert min(way["seconds"] for way in network["ways"]) > 0
    assert f"sem {network['sem']:.1e}" in tables.table(result, "networks.ways")
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


@pytest.fixture
def result(tables: ModuleType) -> dict[str, Any]:
    """A committed comparison of the forms on a CPU."""
    return tables.stored("cpu-xeon-2-cores.json")


@pytest.mark.parametrize("failed", [0, 1])
def test_form_that_failed_is_a_row_with_the_reason(tables: ModuleType, result: dict[str, Any], failed: int):
    form = {name: result["forms"][failed][name] for name in ("letter", "what")}
    result["forms"][failed] = form | {"problem": "its process ended (-9)", "seconds": []}
    head, _, *rows = tables.table(result, "forms").splitlines()
    assert "its process ended (-9)" in rows[failed]
    assert {row.count("|") for row in rows} == {head.count("|")}


def test_figure_has_a_bar_per_form_that_was_timed(tmp_path: Path, result: dict[str, Any]):
    published, *_ = (form for form in result["forms"] if form["name"] == "published")
    published |= {"per_cell": 20.0, "peak_bytes": 10**9}
    del next(form for form in result["forms"] if form["name"] == "torch-compile")["per_cell"]
    script("figure").draw(result, tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text()
    for text in ("20.00 s", "1,000 MB", "published code, as it comes"):
        assert f">{text}<" in drawn
    assert "torch.compile" not in drawn
