"""Commands as processes: the side of the tests; `command_server.py` is the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class CommandServer:
    """Starts commands in processes of their own, see `command_server.py`; one at a time.

    `script` is `scgenept-rt` or `scgenept-export`.
    """

    def __init__(self, script: str, directory: Path) -> None:
        self._script = script
        self._stdout, self._stderr = directory / "stdout", directory / "stderr"
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("command_server.py")), script],
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
            "argv": [self._script, *map(str, arguments)],
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
        return subprocess.CompletedProcess([self._script], status, self._stdout.read_text(), self._stderr.read_text())

    def __call__(self, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; options as for `start`."""
        self.start(*arguments, **options)
        return self.wait()

    def stop(self) -> None:
        self._server.communicate(timeout=60)

    def _answer(self) -> str:
        assert self._server.stdout is not None
        return self._server.stdout.readline()
