"""The scripts in benchmarks/: a small run of each, and the page that is written from their figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest

from tests.benchmarks.scripts import BENCHMARKS, script


def run_script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / name), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def render() -> ModuleType:
    return script("render")


def made_up(device: str, **seconds: float) -> dict[str, Any]:
    """A result with forms that take so many seconds a batch of two cells."""
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


@pytest.mark.slow
def test_forms_agree_and_are_timed_side_by_side(tmp_path: Path):
    names = "published,pytorch-best,default-export-opset20,scgenept-rt-fp32"
    small = ("--layers", 1, "--genes", 60, "--tokens", 100, "--rounds", 2, "--cells", 2)
    done = run_script("side_by_side.py", *small, "--forms", names, "--json", tmp_path / "result.json")
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
    assert memory["scgenept-rt-fp32"] < memory["pytorch-best"] / 1.5


@pytest.mark.slow
def test_scaling_times_genes_cells_and_perturbations(tmp_path: Path, render: ModuleType):
    small = ("--layers", 1, "--genes", "20,90", "--panel", 40, "--tokens", 100, "--cells", "1,2")
    done = run_script("scaling.py", *small, "--perturbations", "1,3", "--json", tmp_path / "result.json")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert [row["genes"] for row in result["genes"]] == [20, 90]
    assert [row["cells"] for row in result["cells"]] == [1, 2]
    assert [row["perturbations"] for row in result["perturbations"]] == [1, 3]
    assert "| 90 |" in render.scaling_section(result)


def test_unknown_form_is_named_with_those_there_are():
    done = run_script("side_by_side.py", "--forms", "published,onnx")
    assert done.returncode == 1
    assert "unknown form 'onnx'" in done.stderr
    assert "scgenept-rt-fp32" in done.stderr


def test_page_is_what_the_committed_figures_give():
    done = run_script("render.py", "--check")
    assert done.returncode == 0, done.stderr


def test_table_shows_medians_ratios_and_errors(render: ModuleType):
    table = render.side_by_side_table(made_up("cpu", published=40.0, scgenept_rt_fp32=8.0))
    published, own = table.splitlines()[2:]
    shown = ["20.00", "18.00 to 100.00", "40.00", "1.00", "41", "20%", "1,000"]
    assert [cell.strip() for cell in published.split("|")[3:10]] == shown
    assert [cell.strip() for cell in own.split("|")[3:7]] == ["4.00", "3.60 to 20.00", "8.00", "5.00"]
    assert "1.0e-06" in own


def test_figure_has_a_bar_for_each_form_and_its_numbers(tmp_path: Path):
    figure = script("figure")
    result = made_up("cpu", published=40.0, torch_compile=12.0, scgenept_rt_fp32=8.0, scgenept_rt_fp16=9.0)
    path = tmp_path / "figure.svg"
    figure.draw(result, path)
    texts = [element.text for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]
    # fp16 is not meant for a CPU.
    for shown in ("20.00 s", "6.00 s", "4.00 s", "1,000 MB", "100 MB", "scgenept-rt", "published code, as it comes"):
        assert shown in texts
    assert "4.50 s" not in texts
    assert any("2 cores of Some CPU" in text for text in texts)
    first = path.read_bytes()
    figure.draw(result, path)
    assert path.read_bytes() == first


def test_form_that_failed_is_a_row_with_the_reason(render: ModuleType):
    result = made_up("cpu", published=40.0, torch_compile=1.0)
    result["forms"][1] |= {"problem": "its process ended (-9)", "seconds": []}
    head, _, _, row = render.side_by_side_table(result).splitlines()
    assert "its process ended (-9)" in row
    assert row.count("|") == head.count("|")


@pytest.mark.parametrize(("own", "states"), [(8.0, ["met", "met", "met"]), (11.0, ["met", "**missed**", "met"])])
def test_goals_say_what_is_met_and_what_is_not(render: ModuleType, own: float, states: list[str]):
    text = render.page([made_up("cpu", published=40.0, published_no_fast_path=12.0, scgenept_rt_fp32=own)])
    goals = text.split("### Goals")[1].split("###")[0]
    rows = [line for line in goals.strip().splitlines()[2:] if line.startswith("|")]
    assert [row.rstrip(" |").rsplit("| ", 1)[1] for row in rows] == states


def test_page_and_readme_say_what_the_empty_mask_costs(render: ModuleType):
    result = made_up("cpu", published=40.0, published_no_mask=16.0, torch_compile=9.0, scgenept_rt_fp32=8.0)
    assert "2.50 times the time and 1.00 times the memory of the same without the mask" in render.page([result])
    sentence = " ".join(script("readme_sentence").readme_sentence(result).split())
    assert "on 2 cores of Some CPU, all in one run" in sentence
    assert "5.0 times the published code as it comes, 2.0 times the same without an empty mask" in sentence
    assert "1.1 times torch.compile" in sentence
    assert "10% of the published code's memory" in sentence
    assert sentence.endswith("Figures from a GPU are not there yet.")
    on_gpu = script("readme_sentence").readme_sentence(made_up("cuda", published=40.0, scgenept_rt_fp16=8.0))
    assert "on Some GPU, all in one run" in on_gpu
    assert "memory" not in on_gpu
    assert "not there yet" not in on_gpu


@pytest.mark.parametrize("failed", ["published", "published-no-mask", "published-no-fast-path", "scgenept-rt-fp32"])
@pytest.mark.parametrize("seconds", [[], [40.0]], ids=["before its rounds", "during them"])
def test_page_and_readme_without_a_form_that_failed(render: ModuleType, failed: str, seconds: list[float]):
    result = made_up("cpu", published=40.0, published_no_mask=16.0, published_no_fast_path=12.0, scgenept_rt_fp32=8.0)
    for form in result["forms"]:
        if form["name"] == failed:
            form |= {"problem": "its process ended (-9)", "seconds": seconds, "peak_bytes": None}
    assert "its process ended (-9)" in render.page([result])
    sentence = " ".join(script("readme_sentence").readme_sentence(result).split())
    assert ("5.0 times the published code" in sentence) == (failed not in ("published", "scgenept-rt-fp32"))
    assert ("memory" in sentence) == (failed not in ("published", "scgenept-rt-fp32"))
    assert sentence.endswith(".")


@pytest.mark.parametrize("form", range(3))
def test_page_and_readme_without_memory_that_was_not_measured(render: ModuleType, form: int):
    result = made_up("cpu", published=40.0, published_no_mask=16.0, scgenept_rt_fp32=8.0, published_no_fast_path=12.0)
    result["forms"][form] |= {"peak_bytes": None, "run_peak_bytes": None, "opened_bytes": None}
    text, sentence = render.page([result]), " ".join(script("readme_sentence").readme_sentence(result).split())
    assert "2.50 times the time" in text
    assert "| 5.00 | 5.00 | met |" in text
    assert "5.0 times the published code" in sentence
    measured = form == 1  # it is about the first and the third
    assert ("under a quarter" in text) == measured
    assert ("Beyond what is held after opening" in text) == measured
    assert ("of the published code's memory" in sentence) == measured


def test_everything_is_written_where_a_form_failed_and_memory_was_not_measured(
    render: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    result = made_up("cpu", published=40.0, torch_compile=12.0, pytorch_best=11.0, scgenept_rt_fp32=8.0)
    result["forms"][0] |= {"problem": "its process ended (-9)", "seconds": [], "peak_bytes": None}
    result["forms"][1] |= {"peak_bytes": None}
    monkeypatch.setattr(render, "committed_results", lambda: [result])
    for name, file in (("PAGE", "page.md"), ("FIGURE", "figure.svg"), ("README", "README.md")):
        monkeypatch.setattr(render, name, tmp_path / file)
    monkeypatch.setattr(render, "ROOT", tmp_path)
    marks = script("readme_sentence")
    (tmp_path / "README.md").write_text(f"before\n{marks.BEGIN}old{marks.END}after\n")
    for options in ([], ["--check"]):
        monkeypatch.setattr(sys, "argv", ["render.py", *options])
        render.main()
    assert "1.5 times torch.compile" in (tmp_path / "README.md").read_text()
    assert ">100 MB<" in (tmp_path / "figure.svg").read_text()


def test_goals_below_the_floor_are_named_as_such(render: ModuleType):
    # 816 GFLOP at 200 GFLOP/s are 4.08 s; of 4,588 tokens 691 GFLOP, 3.45 s.
    slow = render.page([made_up("cpu", published=40.0, published_no_fast_path=12.0, scgenept_rt_fp32=9.0)])
    assert "Of the 5,045 tokens of a cell it computes 4,588" in slow
    assert "3.45 s at the matrix rate, 1.30 times which it takes" in slow
    assert "No form that computes in fp32 can reach that" not in slow
    fast = render.page([made_up("cpu", published=20.0, published_no_fast_path=12.0, scgenept_rt_fp32=9.0)])
    assert "The goal of 3.5 times the published code means 2.86 s a cell" in fast
    assert "No form that computes in fp32 can reach that" in fast


def test_page_without_gpu_figures_says_so(render: ModuleType):
    assert "No figures of this version from a GPU" in render.page([made_up("cpu", published=1.0)])
    on_gpu = render.page([made_up("cuda", published=1.0, scgenept_rt_fp16=0.2)])
    assert "No figures of this version from a GPU" not in on_gpu
    assert "Some GPU, driver 580.1" in on_gpu
