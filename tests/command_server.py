"""Runs `scgenept-rt` in many processes without importing everything anew.

Reads jobs from stdin and forks a process for each.

A job is a JSON line with argv, stdout, stderr (paths), cwd, environment (variables to set), kill_at, from and devices.
The process kills itself at the step kill_at (a call or return of a function of the output package, counted from the
call of the function that from names); null for never. With devices its network runs in so many sessions. The answers
are two lines: the id of the process, and, when it has ended, its status as `subprocess.Popen.returncode` gives it.
Each process ends as an interpreter does.

ONNX Runtime is left to the processes: importing it starts a thread, and a process forked beside one may hang.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import anndata  # noqa: F401 - what the commands import

import scgenept_rt
from scgenept_rt.cli import main
from scgenept_rt.output import merging
from scgenept_rt.predictor import loading, writing
from scgenept_rt.session import SeveralDevices

for module in pkgutil.walk_packages(scgenept_rt.__path__, "scgenept_rt."):
    importlib.import_module(module.name)
gc.freeze()  # the processes share what is imported with this one
assert "onnxruntime" not in sys.modules
assert threading.active_count() == 1


def kill_at(step: int, function: str) -> None:
    """Kill this process at a step; steps are counted from the call of a function on."""
    seen = -1

    def watch(frame: FrameType, event: str, argument: object) -> None:
        nonlocal seen
        ours = any(room in frame.f_code.co_filename for room in ("scgenept_rt/output/", "scgenept_rt/files/"))
        if event in ("call", "return") and ours:
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)

    def watched(called: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            sys.setprofile(watch)
            return called(*arguments, **options)

        return call

    for module in (writing, merging):
        setattr(module, function, watched(getattr(module, function)))


for line in sys.stdin:
    job = json.loads(line)
    process = os.fork()
    if process == 0:
        break
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
else:
    sys.exit()

for descriptor, path, flags in (
    (0, os.devnull, os.O_RDONLY),
    (1, job["stdout"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
    (2, job["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC),
):
    os.dup2(os.open(path, flags, 0o644), descriptor)
# As at a keyboard: a test run that was started in the background has SIGINT ignored, and hands that on.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, and so would commands
os.chdir(job["cwd"])
os.environ.update(job["environment"])
sys.argv = job["argv"]
writing._SECONDS_BETWEEN_COMMITS, writing._COMMIT_SHARE = 0.02, 0.5  # short runs are killed between many commits
if job["devices"] > 1:
    open_session = loading.open_session
    names = [f"device {number}" for number in range(job["devices"])]
    loading.open_session = lambda *given, **options: SeveralDevices(
        {name: open_session(*given, **options) for name in names}
    )
if job["kill_at"] is not None:
    kill_at(job["kill_at"], job["from"])
main()
