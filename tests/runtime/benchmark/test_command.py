from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from scgenept_rt.benchmark.machine import cpu_model
from scgenept_rt.cli import app


def run_command(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["benchmark", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_command_prints_error_and_figures_and_writes_them(bundle: Path, tmp_path: Path):
    json_file = tmp_path / "figures.json"
    options = ("--provider", "cpu", "--batch-sizes", "1,2", "--repeats", 1, "--threads", 1, "--end-to-end")
    code, output = run_command(bundle, *options, "--json", json_file)
    assert code == 0, output
    assert output.index("largest error") < output.index("p50 ms"), "the error first"
    for expected in (cpu_model(), "onnxruntime", "GFLOP/s", "from .h5ad to .h5ad"):
        assert expected in output
    assert len(json.loads(json_file.read_text())["timings"]) == 2


@pytest.mark.parametrize("wrong", ["0", "1,x", "1,1", ""])
def test_unknown_batch_sizes_are_wrong_usage(bundle: Path, wrong: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "200")
    code, output = run_command(bundle, "--batch-sizes", wrong)
    assert code == 2
    assert f"'--batch-sizes': {wrong!r} is not different numbers from 1 such as 1,2, or auto" in output


def test_errors_of_the_command_are_found_before_measuring(
    bundle: Path, tmp_path: Path, command_line: Callable[..., Any]
):
    done = command_line("benchmark", bundle, "--provider", "cpu", "--json", tmp_path / "none" / "figures.json")
    assert done.returncode == 1
    assert "does not exist" in done.stderr
    assert "Traceback" not in done.stderr
    assert "timing" not in done.stderr
