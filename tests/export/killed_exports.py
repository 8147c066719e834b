"""Runs one export again and again and kills it (SIGKILL) before its first, third, fifth ... change of the file system.

First with nothing at `out`, where every run starts with what the one before it left, then replacing a bundle that is
put there before every run. A process of its own, started by test_bundle_export.py with options as JSON: those of the
export, and `graphs`, a bundle to replace, whose graphs are copied instead of traced (that takes most of the time and
changes no file). Prints one JSON object per run: which directories beside the output opened as a bundle after it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import anndata  # noqa: F401  (imported here once, and not in every run)
import onnxruntime  # noqa: F401
import torch
import torch._dynamo

from scgenept_export import bundle_export
from scgenept_export.graph_check import GraphCheck
from scgenept_rt.bundle import Bundle
from scgenept_rt.errors import BundleError

CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}


def kill_before_change(number: int, below: str) -> None:
    """Kill this process before its change of this number of anything below a directory."""
    seen = 0

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal seen
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if not writes and event not in CHANGES:
            return
        path = str(arguments[0])
        if path.startswith(below) or not path.startswith("/"):  # relative: rmtree below an open directory
            seen += 1
            if seen == number:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def opens(directory: Path) -> bool:
    try:
        Bundle.open(directory)
    except BundleError:
        return False
    return True


def main() -> None:
    options = json.loads(sys.argv[1])
    graphs, out = Path(options.pop("graphs")), Path(options["out"])
    torch.set_num_threads(1)  # no thread may run when this process forks
    bundle_export.write_graph = lambda _model, _tokens, path, *_: shutil.copyfile(graphs / path.name, path)
    GraphCheck.misses = lambda *_: []  # the graphs are right, and running them changes no file
    for replacing in (False, True):
        killed, number = True, -1
        while killed:
            number += 2
            if replacing:
                shutil.rmtree(out.parent)
                shutil.copytree(graphs, out)
            child = os.fork()
            if child == 0:
                kill_before_change(number, str(out.parent))
                bundle_export.export_bundle(**options, dataset="new", precisions=("fp32",), overwrite=replacing)
                os._exit(0)
            status = os.waitpid(child, 0)[1]
            killed = os.WIFSIGNALED(status)
            bundles = {entry.name: opens(entry) for entry in out.parent.iterdir()}
            failed = not killed and os.waitstatus_to_exitcode(status) != 0
            run = {"replacing": replacing, "killed": killed, "failed": failed, "bundles": bundles}
            print(json.dumps(run), flush=True)


if __name__ == "__main__":
    main()
