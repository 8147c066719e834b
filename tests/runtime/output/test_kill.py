"""A run that replaces an output is killed at any step: the old one or the new one is there, and it is continued."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anndata
import pytest

from scgenept_rt.output import layouts
from scgenept_rt.output.work_directory import partial_path
from tests.runtime.mutations import SCALE
from tests.runtime.partial_output import content

if TYPE_CHECKING:
    from tests.commands import CommandLine, CommandServer


@pytest.mark.parametrize(("ending", "aggregate"), [("h5ad", "cells"), ("zarr", "mean")])
@pytest.mark.parametrize(("of", "stride"), [("open_table", 900), ("finish_all", 43)])
def test_a_run_that_replaces_an_output_is_killed_at_any_step(
    command_line: CommandLine,
    processes: CommandServer,
    bundle: Path,
    make_cells: Callable[..., anndata.AnnData],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    of: str,
    stride: int,
    ending: str,
    aggregate: str,
) -> None:
    monkeypatch.setattr(layouts, "_CHUNK_BYTES", 500)  # as in the processes
    cells = tmp_path / "cells.h5ad"
    make_cells(4).write_h5ad(cells)
    old, whole, out = (tmp_path / f"{name}.{ending}" for name in ("old", "whole", "out"))
    arguments = ["predict", bundle, cells, "-p", "YFU19", "-p", "EKKN10", "--aggregate", aggregate, "--no-check"]
    for path, n_controls in {old: 1, whole: 4}.items():
        assert command_line(*arguments, "--n-controls", n_controls, "--out", path).returncode == 0
    before, expected = content(old), content(whole)
    arguments += ["--out", out, "--overwrite"]
    for step in range(0, 100_000, max(1, round(stride / SCALE))):
        shutil.copytree(old, out) if old.is_dir() else shutil.copyfile(old, out)
        result = processes(*arguments, kill_at=step, of=of)
        if result.returncode == 0:  # it has fewer steps
            break
        assert result.returncode == -signal.SIGKILL, result.stderr
        if out.exists():
            assert content(out) in (before, expected), step
        else:
            assert ending == "zarr", "a directory cannot be replaced in one step"
        result = command_line(*arguments, "--resume")
        assert result.returncode == 0, (step, result.stderr)
        assert content(out) == expected, step
        assert not partial_path(out).exists()
        shutil.rmtree(out) if out.is_dir() else out.unlink()
    assert step > stride
    assert content(out) == expected
