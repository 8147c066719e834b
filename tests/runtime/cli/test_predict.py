"""The command `predict` where all is well, and where the network itself fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pytest

import scgenept_rt as sgr
from scgenept_rt.bundle import Bundle
from tests.runtime.bundle_changes import keep_genes

if TYPE_CHECKING:
    from tests.commands import CommandServer

MakeCells = Callable[..., anndata.AnnData]


@pytest.fixture
def cells(make_cells: MakeCells, tmp_path: Path) -> Path:
    path = tmp_path / "cells.h5ad"
    make_cells(12).write_h5ad(path)
    return path


def test_the_module_run_as_a_program_writes_what_predict_returns(
    model: sgr.Predictor, bundle: Path, cells: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5ad"
    command = [sys.executable, "-m", "scgenept_rt", "predict", bundle, cells, "--out", out, "-p", "YFU19+ctrl"]
    result = subprocess.run([*command, "--threads", "1"], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout == f"wrote {out}\n"
    assert "provider: auto chose cpu" in result.stderr
    assert "12 (perturbation, control cell) pairs in" in result.stderr
    expected = model.predict(anndata.read_h5ad(cells), "YFU19+ctrl")
    np.testing.assert_allclose(anndata.read_h5ad(out).X, expected.X, rtol=1e-4, atol=2e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5ad", "out.h5ad"]


def test_perturbations_of_every_source_are_joined_in_order_and_predicted_once(
    command_line: CommandServer, bundle: Path, cells: Path, tmp_path: Path
) -> None:
    table, genes, out = tmp_path / "set.csv", tmp_path / "genes.txt", tmp_path / "out.h5ad"
    table.write_text("perturbation,n_controls\nEKKN10+YFU19,3\nSWR9,\n")
    genes.write_text("YFU19\nEKKN10\nSWR9\n")
    options = ["-p", "YFU19", "--perturbations", table, "--pairs-of", genes]
    result = command_line("predict", bundle, cells, "--out", out, *options)
    assert result.returncode == 0, result.stderr
    written = anndata.read_h5ad(out)
    assert written.obs["condition"].tolist() == ["YFU19", "EKKN10+YFU19", "SWR9", "YFU19+SWR9", "EKKN10+SWR9"]
    assert written.obs["n_controls"].tolist() == [12, 3, 12, 12, 12]
    assert "1 perturbation repeats another" in result.stderr


def test_all_singles_are_all_genes_in_order(
    command_line: CommandServer, model: sgr.Predictor, bundle: Path, cells: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5ad"
    assert command_line("predict", bundle, cells, "--out", out, "--all-singles", "--n-controls", "2").returncode == 0
    assert anndata.read_h5ad(out).obs["target_genes"].tolist() == model.gene_names


def test_both_writes_cells_beside_means_and_overwrite_replaces_both(
    command_line: CommandServer, bundle: Path, cells: Path, tmp_path: Path
) -> None:
    out, beside = tmp_path / "out.h5ad", tmp_path / "out.cells.h5ad"
    arguments = ["predict", bundle, cells, "--out", out, "--aggregate", "both"]
    result = command_line(*arguments, "-p", "YFU19")
    assert result.stdout == f"wrote {out}\nwrote {beside}\n"
    result = command_line(*arguments, "-p", "EKKN10", "--overwrite")
    assert result.returncode == 0, result.stderr
    for path in (out, beside):
        assert set(anndata.read_h5ad(path).obs["condition"]) == {"EKKN10"}


def test_for_cell_eval_of_all_measured_perturbations(
    command_line: CommandServer, make_cells: MakeCells, bundle: Path, tmp_path: Path
) -> None:
    measured = make_cells(5)
    measured.obs["condition"] = ["ctrl", "YFU19", "ctrl", "UNKNOWN", "EKKN10"]
    measured.write_h5ad(tmp_path / "data.h5ad")
    options = ["--all-measured", "--for-cell-eval", "--cell-eval-column", "target"]
    result = command_line("predict", bundle, "data.h5ad", "--out", "out.h5ad", *options, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1 label of the cells cannot be read as genes of the model: UNKNOWN" in result.stderr
    assert "cell-eval run -ap out.h5ad -ar data.h5ad --pert-col target --control-pert ctrl\n" in result.stderr
    written = anndata.read_h5ad(tmp_path / "out.h5ad")
    assert written.obs["target"].tolist() == ["ctrl", "ctrl", "YFU19", "YFU19", "EKKN10", "EKKN10"]


def test_zarr_in_and_out(command_line: CommandServer, bundle: Path, cells: Path, tmp_path: Path) -> None:
    pytest.importorskip("zarr", reason="the extra zarr is not installed")
    store, out = tmp_path / "cells.zarr", tmp_path / "out.zarr"
    anndata.read_h5ad(cells).write_zarr(store)
    result = command_line("predict", bundle, store, "--out", out, "-p", "YFU19")
    assert result.returncode == 0, result.stderr
    assert command_line("predict", bundle, cells, "--out", tmp_path / "out.h5ad", "-p", "YFU19").returncode == 0
    expected = anndata.read_h5ad(tmp_path / "out.h5ad")
    np.testing.assert_allclose(anndata.io.read_zarr(out).X, expected.X, rtol=1e-4, atol=2e-5)


def test_prediction_that_is_not_finite_is_an_error_and_leaves_no_file(
    command_line: CommandServer, bundle: Path, cells: Path, tmp_path: Path
) -> None:
    adata = anndata.read_h5ad(cells)
    adata.X[7, 3] = -3e38  # the network has an upper bound for values, but no lower one
    adata.write_h5ad(cells)
    out = tmp_path / "out.h5ad"
    arguments = ["predict", bundle, cells, "--out", out, "-p", "EKKN10", "-p", "YFU19", "--allow-unnormalized"]
    for precision in ("fp32", "fp16"):
        result = command_line(*arguments, "--precision", precision)
        assert result.returncode == 1
        assert f"for cell cell7 under EKKN10 is nan (cpu, {precision})" in result.stderr
        assert "Traceback" not in result.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == ["cells.h5ad"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_directory_that_cannot_be_written(
    command_line: CommandServer, bundle: Path, cells: Path, tmp_path: Path
) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o500)
    result = command_line("predict", bundle, cells, "--out", locked / "out.h5ad", "-p", "YFU19")
    assert result.returncode == 1
    assert "cannot be written (Permission denied)" in result.stderr


def test_reader_that_goes_away_ends_the_command_quietly(bundle: Path, cells: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "scgenept_rt", "inspect", str(bundle), "--json"]
    reading, writing = os.pipe()
    process = subprocess.Popen(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    os.close(reading)
    assert "Traceback" not in process.communicate(timeout=60)[1]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_rows(bundle: Path, make_cells: MakeCells, tmp_path: Path) -> None:
    """30,000 rows take at most 20 MB more than 1,000 rows.

    Their names and codes, known in advance, take about 7 MB. What a run kept of every batch would come on top; 6 of
    the genes alone make up the model here, so that it takes seconds.
    """
    small, cells, genes = tmp_path / "bundle", tmp_path / "cells.h5ad", tmp_path / "genes.txt"
    shutil.copytree(bundle, small)
    keep_genes(small, 6)
    make_cells(1429).write_h5ad(cells)
    genes.write_text("\n".join(Bundle.open(small).manifest.gene_names))
    code = """if True:
        from scgenept_rt.benchmark.memory import host_peak_bytes
        from scgenept_rt.cli import main
        try:
            main()
        finally:
            print(host_peak_bytes())  # not ru_maxrss, which begins at the size of the process that started this one
    """
    peaks = []
    for n_controls, n_rows in (("48", 1_008), ("1429", 30_009)):
        out = tmp_path / f"{n_controls}.h5ad"
        options = ["--all-singles", "--pairs-of", genes, "--aggregate", "cells", "--n-controls", n_controls]
        command = [sys.executable, "-c", code, "predict", small, cells, "--out", out, "--batch-size", "64", *options]
        result = subprocess.run(command, capture_output=True, text=True, check=True)
        assert anndata.read_h5ad(out, backed="r").shape == (n_rows, 6)
        peaks.append(int(result.stdout.split()[-1]) / 1e6)
    assert peaks[1] - peaks[0] < 20, f"{peaks[0]:.0f} MB for the few rows, {peaks[1]:.0f} MB for the many"
