"""Commands in this process, and as processes: the side of the tests; `command_server.py` is the other."""

from __future__ import annotations

import importlib
import io
import json
import os
import signal
import subprocess
import sys
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


class CommandServer:
    """Starts `scgenept-rt` in processes of their own, see `command_server.py`; one at a time."""

    def __init__(self, directory: Path) -> None:
        self._stdout, self._stderr = directory / "stdout", directory / "stderr"
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("command_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )

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
            "stdout": str(self._stdout),
            "stderr": str(self._stderr),
            "cwd": str(cwd or Path.cwd()),
            "environment": {**(environment or {})},
            "kill_at": kill_at,
            "from": of,
            "devices": devices,
        }
        assert self._server.stdin is not None
        self._server.stdin.write(json.dumps(job) + "\n")
        self._server.stdin.flush()
        return int(self._answer())

    def wait(self) -> subprocess.CompletedProcess[str]:
        """Wait for the command that was started; a negative return code is the signal that ended it."""
        status = int(self._answer())
        return subprocess.CompletedProcess(["scgenept-rt"], status, self._stdout.read_text(), self._stderr.read_text())

    def __call__(self, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; options as for `start`."""
        self.start(*arguments, **options)
        return self.wait()

    def stop(self) -> None:
        self._server.communicate(timeout=60)

    def _answer(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline()
