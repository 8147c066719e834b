"""The command `predict` where all is well, and where the network itself fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import anndata
import numpy as np
import pytest

import scgenept_rt as sgr

if TYPE_CHECKING:
    from tests.commands import CommandLine

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
    command_line: CommandLine, bundle: Path, cells: Path, tmp_path: Path
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
    command_line: CommandLine, model: sgr.Predictor, bundle: Path, cells: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5ad"
    assert command_line("predict", bundle, cells, "--out", out, "--all-singles", "--n-controls", "2").returncode == 0
    assert anndata.read_h5ad(out).obs["target_genes"].tolist() == model.gene_names


def test_both_writes_cells_beside_means_and_overwrite_replaces_both(
    command_line: CommandLine, bundle: Path, cells: Path, tmp_path: Path
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
    command_line: CommandLine, make_cells: MakeCells, bundle: Path, tmp_path: Path
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


def test_prediction_that_is_not_finite_is_an_error_and_leaves_no_file(
    command_line: CommandLine, bundle: Path, cells: Path, tmp_path: Path
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


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path) -> None:
    """Of 81 MB of predictions, at most 30 MB are in memory at once."""
    code = """if True:
        import scgenept_rt as sgr
        from scgenept_rt.benchmark.machine import host_peak_bytes
        from scgenept_rt.demo import demo_control_cells

        class Unchanging:
            provider, precision, fixed_batches = "cpu", "fp32", False

            def run(self, values, *_):
                return values

        model, cells = sgr.Predictor(sgr.Bundle.open("demo"), Unchanging()), demo_control_cells(40)
        for n in (2, 100):
            model.predict_file(cells, f"{n}.h5ad", model.gene_names[:n], aggregate="cells", batch_size=8)
            print(host_peak_bytes())  # not ru_maxrss, which begins at the size of the process that started this one
    """
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    few, many = (int(line) / 1e6 for line in result.stdout.split())
    assert (tmp_path / "100.h5ad").stat().st_size > 80e6
    assert many - few < 30, f"{few:.0f} MB for the few rows, {many:.0f} MB for the many"
