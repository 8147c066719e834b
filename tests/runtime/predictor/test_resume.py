"""Runs that are killed: `--resume` continues them, and the file is that of a run that nothing interrupted."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pytest

from scgenept_rt.output.work_directory import partial_path
from tests.runtime import partial_output
from tests.runtime.mutations import SCALE, SEED

if TYPE_CHECKING:
    from tests.commands import CommandLine, CommandServer

MakeCells = Callable[..., anndata.AnnData]

N_CELLS = 40
KILLS = max(2, round(3 * SCALE))
ON_DEVICES = ("both", "max_error")
"""These go on with another number of devices after each kill."""
FORMS = {
    "both": ["--aggregate", "both", "--groupby", "cell_type"],
    "cell_eval": ["--for-cell-eval"],
    "max_error": ["--max-error", "0.2"],
}


@pytest.fixture(scope="module")
def arguments(bundle: Path, make_cells: MakeCells, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A run of a thousand pairs in batches of one cell, so that it takes a while; without --out."""
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    cells = make_cells(N_CELLS)
    cells.obs["cell_type"] = ["T", "B"] * (N_CELLS // 2)
    cells.write_h5ad(path)
    return ["predict", str(bundle), str(path), "--all-singles", "--batch-size", "1", "--threads", "1", "--no-check"]


def outputs(out: Path) -> dict[str, bytes]:
    """The files of a run by their names after that of the output, with everything that lies beside them."""
    return {
        path.name.removeprefix(out.stem): path.read_bytes() if path.is_file() else b"a directory"
        for path in sorted(out.parent.glob(f"{out.stem}*"))
    }


def n_committed(out: Path) -> int:
    """Rows of a run, and of the cells beside it, that are safe."""
    return partial_output.n_committed(out) + partial_output.n_committed(out.with_suffix(f".cells{out.suffix}"))


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(4_000):
        if condition():
            return
        time.sleep(0.005)
    raise AssertionError("it did not happen within 20 seconds")


def kill_at_a_random_moment(
    processes: CommandServer, rng: np.random.Generator, out: Path, *arguments: str, devices: int
) -> subprocess.CompletedProcess[str]:
    """Kill a run while it starts, or some time after it has committed more rows than the one before."""
    before = n_committed(out)
    process = processes.start(*arguments, devices=devices)
    delay = rng.uniform(0, 0.1)
    if rng.random() < 0.8:
        wait_for(lambda: n_committed(out) > before or out.exists())
    time.sleep(delay)
    with contextlib.suppress(ProcessLookupError):  # it has ended by itself
        os.kill(process, signal.SIGKILL)
    return processes.wait()


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_killed_at_random_moments_and_resumed_gives_the_very_file(
    command_line: CommandLine, processes: CommandServer, arguments: list[str], tmp_path: Path, form: str
) -> None:
    whole, out = tmp_path / "whole.h5ad", tmp_path / "killed.h5ad"
    result = command_line(*arguments, *FORMS[form], "--out", whole)
    assert result.returncode == 0, result.stderr

    rng = np.random.default_rng([SEED, list(FORMS).index(form)])  # of the moments of kills
    killed = 0
    while killed < KILLS:
        devices = int(rng.integers(1, 4)) if form in ON_DEVICES else 1
        result = kill_at_a_random_moment(
            processes, rng, out, *arguments, *FORMS[form], "--out", str(out), "--resume", devices=devices
        )
        killed += result.returncode == -signal.SIGKILL
        if result.returncode == 0:
            assert outputs(out) == outputs(whole)
            for path in tmp_path.glob("killed*"):
                path.unlink()
    result = command_line(*arguments, *FORMS[form], "--out", out, "--resume")
    assert result.returncode == 0, result.stderr
    assert outputs(out) == outputs(whole)
    if form == "max_error":
        assert anndata.read_h5ad(out).obs["n_controls"].max() < N_CELLS // 2, "some cells stand for all of a group"


@pytest.mark.parametrize(("form", "stride"), [("both", 43), ("cell_eval", 97)])
def test_killed_at_any_step_of_finishing_and_resumed_gives_the_very_files(
    command_line: CommandLine,
    processes: CommandServer,
    bundle: Path,
    make_cells: MakeCells,
    tmp_path: Path,
    form: str,
    stride: int,
) -> None:
    cells, whole, out = (tmp_path / f"{name}.h5ad" for name in ("cells", "whole", "killed"))
    adata = make_cells(5)
    adata.obs["cell_type"] = list("TBTTB")
    adata.write_h5ad(cells)
    arguments = ["predict", bundle, cells, "-p", "YFU19", "-p", "EKKN10", "--no-check", *FORMS[form]]
    assert command_line(*arguments, "--out", whole).returncode == 0
    expected, killed = outputs(whole), 0
    for step in range(0, 1_000, max(1, round(stride / SCALE))):
        result = processes(*arguments, "--out", out, kill_at=step)
        if result.returncode == 0:  # it has fewer steps
            break
        assert result.returncode == -signal.SIGKILL, result.stderr
        killed += 1
        result = command_line(*arguments, "--out", out, "--resume")
        assert result.returncode == 0, (step, result.stderr)
        assert outputs(out) == expected, step
        for path in tmp_path.glob("killed*"):
            path.unlink() if path.is_file() else shutil.rmtree(path)
    assert killed >= 3


# --- without or with other settings -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def left(processes: CommandServer, arguments: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run left that was killed once it had committed rows."""
    out = tmp_path_factory.mktemp("killed") / "out.h5ad"
    process = processes.start(*arguments, "--out", out)
    wait_for(lambda: n_committed(out) > 0)
    os.kill(process, signal.SIGKILL)
    assert processes.wait().returncode == -signal.SIGKILL
    assert not out.exists()
    return partial_path(out)


@pytest.fixture
def interrupted(left: Path, tmp_path: Path) -> Path:
    """The output of the run that was killed."""
    out = tmp_path / "an output.h5ad"
    shutil.copytree(left, partial_path(out))
    return out


def test_partial_output_is_refused_with_the_command_that_completes_it(
    command_line: CommandLine, arguments: list[str], interrupted: Path, tmp_path: Path
) -> None:
    partial = n_committed(interrupted)
    refused = command_line(*arguments, "--out", interrupted)
    assert refused.returncode == 1
    assert f"left {partial:,} of 24 rows" in refused.stderr
    assert n_committed(interrupted) == partial
    printed = shlex.split(refused.stderr.split("Continue it with: ")[1].splitlines()[0])
    assert printed == ["scgenept-rt", *arguments, "--out", str(interrupted), "--resume"]
    resumed = command_line(*printed[1:])
    predicted = int(resumed.stderr.split(" (perturbation, control cell) pairs in")[0].split()[-1].replace(",", ""))
    assert (resumed.returncode, predicted) == (0, N_CELLS * (24 - partial))  # not what was found
    assert command_line(*arguments, "--out", tmp_path / "whole.h5ad").returncode == 0
    assert outputs(interrupted) == outputs(tmp_path / "whole.h5ad")
    again = command_line(*printed[1:])
    complete = f"{interrupted} is complete already: nothing was predicted\n"
    assert (again.returncode, again.stdout, "0 (perturbation" in again.stderr) == (0, complete, False)


def test_changed_settings_cells_and_bundles_are_refused_by_name(
    command_line: CommandLine,
    arguments: list[str],
    interrupted: Path,
    bundle_copy: Path,
    make_cells: MakeCells,
    tmp_path: Path,
) -> None:
    manifest, cells = bundle_copy / "manifest.json", tmp_path / "cells.h5ad"
    manifest.write_text(manifest.read_text().replace('"dataset":"norman"', '"dataset":"other"'))
    make_cells(N_CELLS, seed=1).write_h5ad(cells)
    changed = ["--seed", "7", "-p", "YFU19+EKKN10", "--batch-size", "2", "--max-error", "0.5"]
    partial = n_committed(interrupted)
    result = command_line("predict", bundle_copy, cells, *arguments[3:], *changed, "--out", interrupted, "--resume")
    assert result.returncode == 1
    assert "the interrupted run that left part of it had other settings" in result.stderr
    for fact in (
        "seed: 0 before, 7 now",
        "perturbations: 24 entries",
        "from number 1 on: YFU19+EKKN10",
        "batch_size: 1 before, 2 now",
        "max_error: not set before, 0.5 now",
        "dataset: norman before, other now",
        "control cells: ",
    ):
        assert fact in result.stderr
    assert n_committed(interrupted) == partial


def test_overwrite_discards_a_partial_output(
    command_line: CommandLine, arguments: list[str], interrupted: Path
) -> None:
    result = command_line(*arguments, "--out", interrupted, "--n-controls", "2", "--overwrite")
    assert result.returncode == 0, result.stderr
    assert anndata.read_h5ad(interrupted).obs["n_controls"].tolist() == [2] * 24
    assert list(outputs(interrupted)) == [".h5ad"]


def test_run_that_replaces_a_file_is_resumed_in_its_place(
    command_line: CommandLine, processes: CommandServer, arguments: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out.h5ad"
    out.write_text("the old one")
    process = processes.start(*arguments, "--out", out, "--overwrite")
    wait_for(lambda: n_committed(out) > 0)
    os.kill(process, signal.SIGKILL)
    processes.wait()
    assert out.read_text() == "the old one"
    partial = n_committed(out)
    result = command_line(*arguments, "--out", out, "--resume")
    assert result.returncode == 1
    assert f"exists already, and an interrupted run left {partial} of 24 rows" in result.stderr
    assert f"Continue it with: scgenept-rt {' '.join(arguments)} --out {out} --overwrite --resume\n" in result.stderr
    assert n_committed(out) == partial
    result = command_line(*arguments, "--out", out, "--overwrite", "--resume")
    assert result.returncode == 0, result.stderr
    assert anndata.read_h5ad(out).n_obs == 24


def test_resume_with_nothing_to_continue_starts_afresh(
    command_line: CommandLine, arguments: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out.h5ad"
    result = command_line(*arguments, "--out", out, "--n-controls", "2", "--resume")
    assert (result.returncode, result.stdout) == (0, f"wrote {out}\n")
    assert anndata.read_h5ad(out).n_obs == 24


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_keeps_what_was_committed(
    processes: CommandServer, arguments: list[str], tmp_path: Path, number: signal.Signals
) -> None:
    out = tmp_path / "out.h5ad"
    # Ten times as many cells: the run is not over before the interrupt, however late that comes.
    process = processes.start(*arguments, "--out", out, "--sampling", "upstream", "--n-controls", 10 * N_CELLS)
    wait_for(lambda: n_committed(out) > 0)
    first = n_committed(out)
    wait_for(lambda: n_committed(out) > first)  # an interrupt in the midst of the first commit leaves nothing
    for _ in range(2):  # as `timeout` does
        os.kill(process, number)
    result = processes.wait()
    assert result.returncode == 128 + number
    assert "Traceback" not in result.stderr
    assert f"interrupted. Continue with: scgenept-rt predict {arguments[1]}" in result.stderr
    assert not out.exists()
    assert n_committed(out) > 0
