"""Where standard output cannot be written: a full device, a reader that went away, a closed descriptor."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata
import pytest

from tests.runtime.conftest import CELLS


def start(
    *arguments: str, unbuffered: bool = False, environment: Mapping[str, str] | None = None, **options: Any
) -> subprocess.Popen[str]:
    """Start the command in an interpreter of its own; buffered, few lines are only written when it ends."""
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    variables |= environment or {}
    if unbuffered:
        variables["PYTHONUNBUFFERED"] = "1"
    command = [sys.executable, "-m", "scgenept_rt", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=variables, **options)


@pytest.mark.parametrize(("arguments", "unbuffered"), [(["--version"], False), (["genes", "demo"], True)])
def test_full_device_is_one_message(arguments: list[str], unbuffered: bool, full_device: Path) -> None:
    with full_device.open("w") as full:
        process = start(*arguments, unbuffered=unbuffered, stdout=full)
        _, message = process.communicate(timeout=60)
    assert message.splitlines() == [
        "error: the output (a file, or what standard output goes to) cannot be written: No space left on device. "
        "Free space, or write elsewhere."
    ]
    assert process.returncode == 1


@pytest.mark.parametrize("arguments", [["--version"], ["genes", "demo"]])  # met at the end, and while printing
def test_reader_that_went_away_is_met_quietly(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start(*arguments, stdout=writing)
    os.close(writing)
    _, message = process.communicate(timeout=60)
    assert message == ""
    assert process.returncode == 1


def test_streams_closed_by_the_caller_are_no_obstacle(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.h5ad"
    arguments = ["predict", str(bundle), str(CELLS), "--out", str(out), "-p", "YFU19"]
    command = ["sh", "-c", 'exec "$@" >&- 2>&- <&-', "sh", sys.executable, "-m", "scgenept_rt", *arguments]
    assert subprocess.run(command, check=False).returncode == 0
    assert anndata.read_h5ad(out).n_obs == 1


def test_a_download_with_errors_closed_fails_as_otherwise(tmp_path: Path) -> None:
    arguments = ["download", "vocab", "--offline", "--dir", str(tmp_path)]
    command = ["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-m", "scgenept_rt", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")


def test_a_locale_without_the_letters_of_a_name_prints_them_as_escapes(tmp_path: Path) -> None:
    process = start(
        "predict",
        "demo",
        "none_\N{SNOWMAN}.h5ad",
        "--out",
        str(tmp_path / "out.h5ad"),
        "-p",
        "FOSB",
        environment={"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    )
    _, message = process.communicate(timeout=60)
    assert message.startswith("error: none_")
    assert "there is no such file" in message
    assert process.returncode == 1
