"""Every command with `--provider cuda`, from the command line to its files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import anndata
import pytest

from tests.cuda.conftest import Run

# What ONNX Runtime prints by itself: its log, and the debug lines from which attention kernels are read.
DEBUG = r"\[[WE]:onnxruntime|flash=|Attention(?:KernelOptions|Options)|EP Error"


def succeeded(done: Run) -> Run:
    assert done.code == 0, done.stdout + done.stderr
    assert not re.search(DEBUG, done.stdout + done.stderr)
    return done


def test_providers_names_the_device(run: Callable[..., Run]) -> None:
    rows = {row["name"]: row for row in json.loads(succeeded(run("providers", "--json")).stdout)}
    assert rows["cuda"]["usable"]
    assert "Stand-in GPU (compute capability 9.0)" in rows["cuda"]["reason"]
    assert not rows["tensorrt"]["usable"]


@pytest.mark.parametrize("options", [("--aggregate", "mean"), ("--aggregate", "cells", "--precision", "fp32")])
def test_predict(
    run: Callable[..., Run], bundle: Path, cells: Path, genes: tuple[str, ...], tmp_path: Path, options: tuple[str, ...]
) -> None:
    out = tmp_path / "out.h5ad"
    labels = ("-p", f"{genes[3]}+ctrl", "-p", f"{genes[3]}+{genes[5]}")
    done = succeeded(run("predict", bundle, cells, "--out", out, *labels, "--provider", "cuda", *options))
    written = anndata.read_h5ad(out)
    assert written.shape == ((2 if "mean" in options else 80), len(genes))
    about = written.uns["scgenept_rt"]
    assert about["provider"] == "cuda"
    assert about["gpu"] == "Stand-in GPU"
    assert about["precision"] == ("fp32" if "fp32" in options else "fp16")
    assert done.calls("cublas")


def test_verify_compares_and_names_the_kernels(run: Callable[..., Run], bundle: Path) -> None:
    done = succeeded(run("verify", bundle, "--provider", "cuda"))
    fp32, fp16 = done.stdout.splitlines()[::2]
    assert fp32.endswith("attention: MATH")
    assert fp16.endswith("attention: CUDNN_FLASH_ATTENTION")
    each = succeeded(run("verify", bundle, "--device", "0,1", "--json", STANDIN_GPUS="2"))
    assert each.stderr == ""
    assert [(row["device"], row["precision"]) for row in json.loads(each.stdout)] == [
        (device, precision) for precision in ("fp32", "fp16") for device in (0, 1)
    ]
    wrong = run("verify", "demo", "--provider", "cuda")
    assert wrong.code == 1  # zeros
    assert wrong.stdout.startswith("MISS  cuda fp32")


@pytest.mark.parametrize(("precision", "kernel"), [("fp32", "MATH"), ("fp16", "CUDNN_FLASH_ATTENTION")])
def test_benchmark(precision: str, kernel: str, run: Callable[..., Run], bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    options = ("--precision", precision, "--batch-sizes", "1,4", "--repeats", "2", "--end-to-end")
    succeeded(run("benchmark", bundle, "--provider", "cuda", *options, "--json", path))
    result = json.loads(path.read_text())
    assert result["attention_kernel"] == kernel
    assert [timing["batch_size"] for timing in result["timings"]] == [1, 4]
    assert all(timing["peak_device_bytes"] > 0 for timing in result["timings"])
    files = result["end_to_end"]
    assert files["n_controls"] * files["n_perturbations"] >= 4 * 24  # no more than the model has genes


def test_check_and_benchmark_on_several_devices(run: Callable[..., Run], bundle: Path, cells: Path) -> None:
    assert "cuda" in succeeded(run("check", bundle, cells, "--provider", "cuda")).stdout
    assert "on each of 2 devices" in succeeded(run("check", bundle, cells, "--device", "all", STANDIN_GPUS="2")).stdout
    refused = run("benchmark", bundle, "--device", "all", STANDIN_GPUS="2")  # measures one
    assert (refused.code, "--device 0" in refused.stderr) == (1, True)


def test_demo(run: Callable[..., Run], tmp_path: Path) -> None:
    succeeded(run("demo", "--provider", "cuda", "--out", tmp_path / "demo"))
    assert list((tmp_path / "demo").rglob("*.h5ad"))


@pytest.mark.parametrize("command", ["evaluate", "gi", "plot"])
def test_what_is_compared_with_measured_cells(
    command: str, run: Callable[..., Run], bundle: Path, cells: Path, genes: tuple[str, ...], tmp_path: Path
) -> None:
    a, b = f"{genes[3]}+ctrl", f"{genes[5]}+ctrl"
    tested = {"unseen_single": [a, b], "combo_seen0": [f"{genes[3]}+{genes[5]}"]}
    split = {"dataset": "norman", "train": ["ctrl"], "val": [], "subgroups": {"test_subgroup": tested}}
    (tmp_path / "split.json").write_text(json.dumps(split))
    arguments = {
        "evaluate": (bundle, cells, "--split", tmp_path / "split.json", "--json", tmp_path / "figures.json"),
        "gi": (bundle, cells, "-p", tested["combo_seen0"][0], "--csv", tmp_path / "gi.csv"),
        "plot": ("agreement", cells, "-p", a, "--bundle", bundle, "--out", tmp_path / "figure.png"),
    }[command]
    done = succeeded(run(command, *arguments, "--provider", "cuda"))
    assert Path(arguments[-1]).stat().st_size > 0
    assert done.calls("cublas")
