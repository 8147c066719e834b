"""A run that replaces an output is killed at any step: the old one or the new one is there, and it is continued."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pytest

from scgenept_rt.output import layouts
from scgenept_rt.output.work_directory import partial_path
from tests.runtime.mutations import SCALE
from tests.runtime.partial_output import content, n_committed

if TYPE_CHECKING:
    from tests.commands import CommandLine, CommandServer


KILLS = {
    ("lay_out", 0): 400,
    ("save", 0): 12,
    ("write", 0): 16,
    ("_checksum", 0): 8,
    ("_write_fully", 150): 30,  # after the first commit
    ("publish", 0): 40,
    ("move_durably", 0): 4,
    ("remove", 0): 14,
}
"""Functions in which the run is killed, from a step on, and how many steps these have at least."""


@pytest.mark.parametrize(("ending", "aggregate"), [("h5ad", "mean"), ("zarr", "cells")])
def test_a_run_that_replaces_an_output_is_killed_at_any_step(
    command_line: CommandLine,
    processes: CommandServer,
    bundle: Path,
    make_cells: Callable[..., anndata.AnnData],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    aggregate: str,
) -> None:
    monkeypatch.setattr(layouts, "_CHUNK_BYTES", 500)  # as in the processes
    cells = tmp_path / "cells.h5ad"
    make_cells(4).write_h5ad(cells)
    old, whole, out = (tmp_path / f"{name}.{ending}" for name in ("old", "whole", "out"))
    arguments = ["predict", bundle, cells, "-p", "YFU19", "-p", "EKKN10", "--aggregate", aggregate, "--no-check"]
    arguments += ["--batch-size", "3"]
    for path, n_controls in {old: 1, whole: 4}.items():
        assert command_line(*arguments, "--n-controls", n_controls, "--out", path).returncode == 0
    before, expected = content(old), content(whole)
    arguments += ["--out", out, "--overwrite"]
    of_store = {("remove", 0): 160, ("lay_out", 0): 430} if ending == "zarr" else {}
    for (of, first), n_steps in {**KILLS, **of_store}.items():
        for step in dict.fromkeys(np.linspace(first, first + n_steps, round(SCALE) + 2, dtype=int)[1:-1].tolist()):
            shutil.copytree(old, out) if old.is_dir() else shutil.copyfile(old, out)
            result = processes(*arguments, kill_at=step, of=of)
            assert result.returncode == -signal.SIGKILL, (of, step, result.stderr)
            if out.exists():
                assert content(out) in (before, expected), (of, step)
            else:
                assert ending == "zarr", "a directory cannot be replaced in one step"
            assert (n_committed(out) > 0) == (of in ("publish", "move_durably") or first > 0), (of, step)
            result = command_line(*arguments, "--resume")
            assert result.returncode == 0, (of, step, result.stderr)
            assert content(out) == expected, (of, step)
            assert not partial_path(out).exists()
            shutil.rmtree(out) if out.is_dir() else out.unlink()
