"""Runs `scgenept-rt` in many processes without importing everything anew.

Forks a process for each connection to the socket that its argument names, until stdin ends.

A connection brings a job, which is JSON with argv, cwd, environment, kill_at, from and devices, and the three standard
streams. The process kills itself at the step kill_at (a call or return of a function of the packages output and files,
or a name in the file system that is about to change, counted from the first call of the function that from names, once
an output is opened); null for never. It commits each batch then. With devices its network runs in so many sessions. The
answers are two lines: the id of the process, and, when it has ended, its status as `subprocess.Popen.returncode` gives
it. Each process ends as an interpreter does.

ONNX Runtime is left to the processes: importing it starts a thread, and a process forked beside one may hang.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import json
import math
import os
import pkgutil
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

import adjustText  # noqa: F401 - what the commands import, as anndata
import anndata  # noqa: F401

import scgenept_rt
from scgenept_rt.cli import main
from scgenept_rt.output import destination, layouts, shards
from scgenept_rt.predictor import loading, writing
from scgenept_rt.session import SeveralDevices

for module in pkgutil.walk_packages(scgenept_rt.__path__, "scgenept_rt."):
    importlib.import_module(module.name)
gc.freeze()  # the processes share what is imported with this one
assert "onnxruntime" not in sys.modules
assert threading.active_count() == 1

CHANGES_OF_NAMES = ("os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir")


def kill_at(step: int, function: str) -> None:
    """Kill this process at a step; steps are counted from the first call of a function on."""
    seen, begun = itertools.count(), False

    def count() -> None:
        if begun and next(seen) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(frame: FrameType, event: str, argument: object) -> None:
        nonlocal begun
        ours = any(room in frame.f_code.co_filename for room in ("scgenept_rt/output/", "scgenept_rt/files/"))
        if event in ("call", "return") and ours:
            begun = begun or frame.f_code.co_name == function
            count()

    def watched(called: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            sys.setprofile(watch)
            return called(*arguments, **options)

        return call

    sys.addaudithook(lambda event, _: count() if event in CHANGES_OF_NAMES else None)
    for module in (destination, shards):
        module.open_table = watched(module.open_table)


with socket.socket(socket.AF_UNIX) as listener:
    listener.bind(sys.argv[1])
    listener.listen()
    print("listening", flush=True)
    while listener in select.select([sys.stdin, listener], [], [])[0]:
        connection, _ = listener.accept()
        with connection:
            message, streams, *_ = socket.recv_fds(connection, 1 << 20, 3)
            if os.fork() == 0:  # waits for the process
                process = os.fork()
                if process == 0:
                    break
                connection.sendall(f"{process}\n".encode())
                connection.sendall(f"{os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])}\n".encode())
                os._exit(0)
        for stream in streams:
            os.close(stream)
    else:
        sys.exit()

for descriptor, stream in enumerate(streams):
    os.dup2(stream, descriptor)
    os.close(stream)
sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", 1)  # those kept what they led to
job = json.loads(message)
# As at a keyboard: a test run that was started in the background has SIGINT ignored, and hands that on.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, and so would commands
os.chdir(job["cwd"])
os.environ.clear()
os.environ.update(job["environment"])
sys.argv = job["argv"]
writing._SECONDS_BETWEEN_COMMITS, writing._COMMIT_SHARE = 0.02, 0.5  # short runs are killed between many commits
layouts._CHUNK_BYTES = 500  # and in many chunks of a .zarr store
if job["devices"] > 1:
    open_session = loading.open_session
    names = [f"device {number}" for number in range(job["devices"])]
    loading.open_session = lambda *given, **options: SeveralDevices(
        {name: open_session(*given, **options) for name in names}
    )
if job["kill_at"] is not None:
    writing._SECONDS_BETWEEN_COMMITS, writing._COMMIT_SHARE = 0, math.inf
    kill_at(job["kill_at"], job["from"])
main()
