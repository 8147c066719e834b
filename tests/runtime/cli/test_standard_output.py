"""Where standard output cannot be written: a full device, a reader that went away, a closed descriptor."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FULL_DEVICE = Path("/dev/full")


def start(*arguments: str, unbuffered: bool = False, **options: Any) -> subprocess.Popen[str]:
    """Start the command in an interpreter of its own; buffered, few lines are only written when it ends."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    if unbuffered:
        environment["PYTHONUNBUFFERED"] = "1"
    command = [sys.executable, "-m", "scgenept_rt", *arguments]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, **options)


@pytest.mark.skipif(not FULL_DEVICE.exists(), reason="the system has no device that is always full")
@pytest.mark.parametrize("unbuffered", [False, True])
@pytest.mark.parametrize("arguments", [["--version"], ["predict", "--help"], ["inspect", "demo"], ["genes", "demo"]])
def test_full_device_is_one_message(arguments: list[str], unbuffered: bool) -> None:
    with FULL_DEVICE.open("w") as full:
        process = start(*arguments, unbuffered=unbuffered, stdout=full)
        _, message = process.communicate(timeout=60)
    assert message.splitlines() == [
        "error: the output (a file, or what standard output goes to) cannot be written: No space left on device. "
        "Free space, or write elsewhere."
    ]
    assert process.returncode == 1


@pytest.mark.skipif(os.name != "posix", reason="a pipe without a reader is an error of its own on POSIX alone")
@pytest.mark.parametrize("arguments", [["--version"], ["genes", "demo"]])
def test_reader_that_went_away_is_met_quietly(arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = start(*arguments, stdout=writing)
    os.close(writing)
    _, message = process.communicate(timeout=60)
    assert message == ""
    assert process.returncode == 1


@pytest.mark.skipif(os.name != "posix", reason="a shell is needed to close a descriptor")
@pytest.mark.parametrize("arguments", [["--version"], ["genes", "demo"]])
def test_output_closed_by_the_caller_is_no_obstacle(arguments: list[str]) -> None:
    command = ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, "-m", "scgenept_rt", *arguments]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
