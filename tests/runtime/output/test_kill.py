"""A run that is killed at any moment is continued, and no row is lost or doubled."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from scgenept_rt.output.work_directory import partial_path
from tests.runtime.mutations import SCALE
from tests.runtime.partial_output import n_committed


def expected_rows(n_rows: int) -> np.ndarray:
    return np.stack([np.random.default_rng(i).normal(size=6).astype(np.float32) for i in range(n_rows)])


def test_kills_lose_and_double_no_row_of_a_zarr_store(tmp_path, writer_process, read_table, assert_same):
    """Of an .h5ad file: tests/runtime/predictor/test_resume.py."""
    job = {"kind": "cells", "n": 400, "chunk_rows": 100}
    whole, killed = tmp_path / "whole.zarr", tmp_path / "killed.zarr"
    assert writer_process.run(path=str(whole), **job) == 0

    delays = np.random.default_rng(20240).uniform(0.0, 0.2, size=8)
    pause = 0.009  # 240 blocks: the pauses alone are longer than all delays together
    assert delays.sum() < pause * 240
    committed = []
    for delay in delays:
        pid = writer_process.start(path=str(killed), pause=pause, **job)
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
        assert writer_process.status() == -signal.SIGKILL
        assert not killed.exists(), "the output has its name before it is complete"
        if (partial_path(killed) / "journal.json").exists():
            committed.append(n_committed(killed))
    assert all(before - 5 < after for before, after in itertools.pairwise(committed))
    assert writer_process.run(path=str(killed), **job) == 0

    table = read_table(killed)
    assert_same(table, read_table(whole))
    np.testing.assert_array_equal(table.X, expected_rows(1200))
    assert sorted(tmp_path.iterdir()) == sorted([whole, killed])


@pytest.mark.parametrize(
    ("ending", "kind", "overwrite"),
    [("h5ad", "cells", True), ("zarr", "mean", True)],
)
def test_kill_before_every_file_system_call(ending, kind, overwrite, tmp_path, writer_process, read_table, assert_same):
    """Kills before the 1st, 2nd, 3rd ... rename, removal or new directory, until a run has no more of them."""
    job = {"kind": kind, "n": 12 if kind == "mean" else 4, "chunk_rows": 7, "overwrite": overwrite}
    whole = tmp_path / f"whole.{ending}"
    assert writer_process.run(path=str(whole), **job) == 0
    expected = read_table(whole)
    old = tmp_path / f"old.{ending}"
    assert writer_process.run(path=str(old), **{**job, "n": job["n"] // 2}) == 0

    for number in range(1, 400, max(1, round((2 if ending == "h5ad" else 7) / SCALE))):
        directory = tmp_path / str(number)
        directory.mkdir()
        path = directory / f"out.{ending}"
        if overwrite:
            shutil.copyfile(old, path) if ending == "h5ad" else shutil.copytree(old, path)
        status = writer_process.run(path=str(path), kill_at=number, **job)
        if path.exists():
            # only ever the old output or the whole new one
            assert read_table(path).n_obs in ((6, 12) if overwrite else (12,))
        elif overwrite and ending == "h5ad":
            pytest.fail("the old output was gone before the new one was there")
        assert writer_process.run(path=str(path), **job) == 0
        assert_same(read_table(path), expected)
        assert list(directory.iterdir()) == [path]
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert status == 0
    assert number > 10


def test_the_writer_process_reports_failures(tmp_path: Path, writer_process):
    """Guards the tests above: a job that fails in another way than by a kill must not look like one."""
    assert writer_process.run(path=str(tmp_path / "absent" / "out.h5ad"), kind="mean", n=3, chunk_rows=7) > 0
