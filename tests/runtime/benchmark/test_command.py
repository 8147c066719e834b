from __future__ import annotations

import builtins
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scgenept_rt.benchmark import measurement
from scgenept_rt.benchmark.machine import cpu_model
from scgenept_rt.cli import app
from scgenept_rt.errors import MissingPackageError


def run_command(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["benchmark", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_command_prints_error_and_figures_and_writes_both_files(bundle: Path, tmp_path: Path):
    pytest.importorskip("matplotlib")
    json_file, plot_file = tmp_path / "figures.json", tmp_path / "throughput.png"
    options = ("--provider", "cpu", "--batch-sizes", "1,2", "--repeats", 1, "--threads", 1, "--end-to-end")
    code, output = run_command(bundle, *options, "--json", json_file, "--plot", plot_file)
    assert code == 0, output
    assert output.index("largest error") < output.index("p50 ms"), "the error first"
    for expected in (cpu_model(), "onnxruntime", "GFLOP/s", "from .h5ad to .h5ad", "attention kernel"):
        assert expected in output
    assert len(json.loads(json_file.read_text())["results"][0]["timings"]) == 2
    assert plot_file.is_file()


@pytest.mark.parametrize("wrong", ["0", "1,x", "", "1,,2", "-3", "1.5"])
def test_unknown_batch_sizes_are_wrong_usage(bundle: Path, wrong: str):
    code, output = run_command(bundle, "--batch-sizes", wrong)
    assert code == 2
    assert "--batch-sizes" in output


def test_unknown_precision_is_wrong_usage(bundle: Path):
    code, output = run_command(bundle, "--precision", "fp32,int8")
    assert code == 2
    assert "--precision" in output


def test_errors_of_the_command_are_found_before_measuring(
    bundle: Path, tmp_path: Path, command_line: Callable[..., Any]
):
    done = command_line("benchmark", bundle, "--provider", "cpu", "--json", tmp_path / "none" / "figures.json")
    assert done.returncode == 1
    assert "does not exist" in done.stderr
    assert "Traceback" not in done.stderr
    assert "timing" not in done.stderr


def test_plot_without_matplotlib_says_what_to_install(monkeypatch: pytest.MonkeyPatch, bundle: Path, tmp_path: Path):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        "scgenept_rt.plotting.drawing.find_spec", lambda name: None if name == "matplotlib" else find_spec(name)
    )
    # Before anything is measured.
    monkeypatch.setattr(measurement, "load", lambda *_args, **_options: pytest.fail("measured all the same"))
    with pytest.raises(MissingPackageError, match=r"pip install .*\[plot\]"):
        run_command(bundle, "--provider", "cpu", "--plot", tmp_path / "throughput.png")


def test_matplotlib_is_not_imported_without_a_plot(monkeypatch: pytest.MonkeyPatch, bundle: Path):
    real = builtins.__import__

    def guarded(name: str, *args: Any, **options: Any) -> Any:
        assert not name.startswith("matplotlib")
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", guarded)
    assert run_command(bundle, "--provider", "cpu", "--batch-sizes", 1, "--repeats", 1)[0] == 0
