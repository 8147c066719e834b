"""`scgenept-rt download`: exit codes, what it prints, and a bar on a terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial

import pytest

from tests.commands import CommandLine
from tests.runtime.download.conftest import GO_C, VOCAB

COMMAND = (sys.executable, "-m", "scgenept_rt", "download")


@pytest.fixture
def download(command_line: CommandLine) -> Callable[..., subprocess.CompletedProcess[str]]:
    return partial(command_line, "download", environment={"COLUMNS": "200", "TERM": "dumb"})


def test_names_come_and_are_listed_as_here(download, server, tmp_path):
    options = ("--dir", tmp_path / "d", "--mirror", server.url)
    done = download("scgenept_go_c_gpt_concat", "vocab", *options)
    assert done.returncode == 0, done.stderr
    assert "scgenept_go_c: downloaded, checksum recorded" in done.stdout
    assert str(tmp_path / "d" / VOCAB[1:]) in done.stdout
    again = download("scgenept_go_c", *options)
    assert "already here, checksum right" in again.stdout
    listed = download("--list", *options)
    assert listed.returncode == 0
    lines = {line.split()[0]: line for line in listed.stdout.splitlines() if not line.startswith(" ")}
    assert " here " in lines["scgenept_go_c"]
    assert "600.0 kB" in lines["scgenept_go_c"]
    assert " - " in lines["scgenept_go_f"]
    assert "169 MB" in lines["norman"]


def test_everything_that_is_missing_offline_is_listed_at_once(download, tmp_path):
    done = download("all", "--offline", "--dataset", "adamson", "--dir", tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("is not here, and nothing may be downloaded") == 9
    assert done.stderr.count("place at") == 9
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ((), 2, "--list"),
        (("vocab", "--mirror", "ftp://host/"), 2, "--mirror"),
        (("vocabulary",), 1, "Did you mean vocab?"),
    ],
)
def test_wrong_usage_and_wrong_names(download, arguments, code, words, tmp_path):
    done = download(*arguments, "--dir", tmp_path)
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_bar_with_bytes_rate_and_time_left_on_a_terminal(server, misbehave, tmp_path):
    import pty

    server.on(GO_C, misbehave.hold_after(300_000))
    controller, terminal = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "scgenept_go_c", "--dir", str(tmp_path), "--mirror", server.url],
        stdout=subprocess.DEVNULL,
        stderr=terminal,
        env=os.environ | {"COLUMNS": "140", "TERM": "xterm"},
    )
    os.close(terminal)
    shown = b""
    try:
        while output := _read(controller):
            shown += output
            if b" left" in shown:  # the bar shows the time left: the rest may come
                server.released.set()
        assert process.wait(60) == 0
    finally:
        process.kill()
        os.close(controller)
    text = shown.decode()
    assert "best_model_gpt3.5_ada_rnd_seed_42_concat.pt" in text
    assert "MB/s" in text
    assert " left" in text


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 65536)
    except OSError:  # Linux raises this when the other side is closed
        return b""
