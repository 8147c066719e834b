"""Reads that last, of files that HDF5 really walks for ever."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import anndata
import h5py
import pytest

COMMAND = """
import signal
from scgenept_rt.cli import main
from scgenept_rt.files import failures, stores
stores.Hdf5Source._check_heap = lambda self, address: print("reading", flush=True)
failures._SECONDS_TO_NOTICE = 0.2
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
main()
"""


@pytest.mark.parametrize(
    ("number", "of_names"), [(signal.SIGINT, False), (signal.SIGTERM, True)], ids=["attributes", "names"]
)
def test_a_signal_ends_a_command_whose_library_never_returns(tmp_path: Path, number: int, of_names: bool) -> None:
    path = tmp_path / "cells.h5ad"
    anndata.AnnData(obs={"condition": ["ctrl"] * 400}).write_h5ad(path)
    with h5py.File(path, "r+") as file:
        del file["obs/_index"]
        file["obs/_index"] = [f"cell number {at}" for at in range(400)]
    damaged = bytearray(path.read_bytes())
    heap = (damaged.rindex if of_names else damaged.index)(b"GCOL\x01") + 40
    damaged[heap : heap + 2000] = bytes(2000)  # a heap of texts, which has no end now
    path.write_bytes(damaged)
    command = [sys.executable, "-c", COMMAND, "inspect", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == "reading\n"
            if of_names:  # HDF5 lets no other thread run while it reads attributes
                assert f"still reading {path}" in process.stderr.readline()
            process.send_signal(number)
            assert process.wait(60) == -number
        finally:
            process.kill()


def test_hdf5_is_one_without_known_overflows() -> None:
    assert h5py.version.hdf5_version_tuple >= (1, 14, 4)
