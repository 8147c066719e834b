"""Commands in this process, and as processes: the side of the tests; `command_server.py` is the other."""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

PACKAGES = {"scgenept-rt": "scgenept_rt", "scgenept-export": "scgenept_export"}
"""What the scripts run: the function `main` of the module `cli`."""


@dataclass(frozen=True)
class CommandLine:
    """Runs a script in this process, which costs a tenth of a process of its own."""

    script: str

    def __call__(
        self, *arguments: object, cwd: Path | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        main = importlib.import_module(f"{PACKAGES[self.script]}.cli").main
        out, err, code = io.StringIO(), io.StringIO(), 0
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(cwd or Path.cwd())
            patch.setattr(sys, "argv", [self.script, *map(str, arguments)])
            patch.setenv("MPLBACKEND", "agg")  # main sets it too, and would leave it
            for name, value in (environment or {}).items():
                patch.setenv(name, value)
            try:
                main()
            except SystemExit as ended:
                code = int(ended.code or 0)
            except Exception:
                traceback.print_exc()
                code = 1
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if code > 128:  # a signal, which was for the tests
            signal.raise_signal(code - 128)
        return subprocess.CompletedProcess([self.script], code, out.getvalue(), err.getvalue())


SHIM = """\
#!{} -IS
import json, os, signal, socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect({!r})
job = {{"argv": sys.argv, "cwd": os.getcwd(), "environment": dict(os.environ), "kill_at": None, "devices": 1}}
socket.send_fds(connection, [json.dumps(job).encode()], [0, 1, 2])
answers = connection.makefile()
process = int(answers.readline())
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: os.kill(process, number))
status = int(answers.readline())
sys.exit(status if status >= 0 else 128 - status)
"""
"""A script `scgenept-rt` that has a server run the command."""


class CommandServer:
    """Starts `scgenept-rt` in processes of their own, see `command_server.py`; one at a time.

    Attributes
    ----------
    scripts
        A directory with a script `scgenept-rt` for other programs, which saves the second that a process takes to
        import the package.
    """

    def __init__(self, directory: Path) -> None:
        self._stdout, self._stderr = directory / "stdout", directory / "stderr"
        self._short = tempfile.TemporaryDirectory()  # the name of a socket may not be long
        self._socket = str(Path(self._short.name) / "socket")
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("command_server.py")), self._socket],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "MPLBACKEND": "agg"},
        )
        self.scripts = directory / "scripts"
        self.scripts.mkdir()
        script = self.scripts / "scgenept-rt"
        script.write_text(SHIM.format(sys.executable, self._socket))
        script.chmod(0o755)
        assert self._server.stdout is not None
        assert self._server.stdout.readline()

    def start(
        self,
        *arguments: object,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        kill_at: int | None = None,
        of: str = "finish_all",
        devices: int = 1,
    ) -> int:
        """Start a command and return the id of its process; see `command_server.py` for `kill_at` and `devices`."""
        job = {
            "argv": ["scgenept-rt", *map(str, arguments)],
            "cwd": str(cwd or Path.cwd()),
            "environment": {**os.environ, **(environment or {})},
            "kill_at": kill_at,
            "from": of,
            "devices": devices,
        }
        with (
            socket.socket(socket.AF_UNIX) as connection,
            Path(os.devnull).open() as stdin,
            self._stdout.open("w") as stdout,
            self._stderr.open("w") as stderr,
        ):
            connection.connect(self._socket)
            streams = [stream.fileno() for stream in (stdin, stdout, stderr)]
            socket.send_fds(connection, [json.dumps(job).encode()], streams)
            self._answers = connection.makefile()
        return int(self._answers.readline())

    def wait(self) -> subprocess.CompletedProcess[str]:
        """Wait for the command that was started; a negative return code is the signal that ended it."""
        status = int(self._answers.readline())
        return subprocess.CompletedProcess(["scgenept-rt"], status, self._stdout.read_text(), self._stderr.read_text())

    def __call__(self, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; options as for `start`."""
        self.start(*arguments, **options)
        return self.wait()

    def stop(self) -> None:
        self._server.communicate(timeout=60)
        self._short.cleanup()
