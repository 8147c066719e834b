"""What a user gets who made a mistake: exit code 1, one message with the facts, and nothing written."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest

import scgenept_rt as sgr
from scgenept_rt.cli.perturbations import requested
from scgenept_rt.errors import UnknownGeneError
from tests.commands import CommandLine

MakeCells = Callable[..., anndata.AnnData]
Refusal = Callable[..., str]

GENE = "YFU19"


@pytest.fixture
def cells(make_cells: MakeCells, tmp_path: Path) -> Path:
    path = tmp_path / "cells.h5ad"
    make_cells(40).write_h5ad(path)
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.h5ad"


def contents(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "dir"
        for path in directory.rglob("*")
    }


@pytest.fixture
def refused(command_line: CommandLine, bundle: Path, cells: Path, out: Path, tmp_path: Path) -> Refusal:
    """Return a function that runs predict, expects a refusal, and returns the message."""

    def run(
        *options: str | Path, bundle: Path = bundle, cells: Path = cells, out: Path = out, label: str = GENE
    ) -> str:
        before = contents(tmp_path)
        result = command_line("predict", bundle, cells, "--out", out, "-p", label, *options)
        assert result.returncode == 1, result.stderr
        assert "Traceback" not in result.stderr
        assert result.stderr.count("error: ") == 1
        assert result.stdout == ""
        assert contents(tmp_path) == before, "something was written"
        return result.stderr[result.stderr.index("error: ") :].strip()

    return run


def assert_says(message: str, *facts: object) -> None:
    for fact in facts:
        assert str(fact) in message, message


# --- perturbations ----------------------------------------------------------------------------------------------------


def test_unknown_gene_with_near_spellings_and_how_to_list_genes(refused: Refusal) -> None:
    message = refused(label="YFU91+ctrl")
    assert_says(message, "YFU91 (did you mean YFU19?)", "the model's 24 genes", "scgenept-rt genes")


def test_unknown_genes_are_found_before_pairs_are_made_of_them(
    model: sgr.Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    genes = tmp_path / "genes.txt"
    genes.write_text("".join(f"GENE{number}\n" for number in range(20_000)))  # 200 million pairs
    monkeypatch.setattr("scgenept_rt.perturbation.pairs_of", lambda _: pytest.fail("pairs were made"))
    with pytest.raises(UnknownGeneError):
        requested(None, None, singles=False, pairs_of=genes)(model.panel)


def test_three_genes_are_allowed_with_a_warning(
    command_line: CommandLine, bundle: Path, cells: Path, out: Path
) -> None:
    result = command_line("predict", bundle, cells, "--out", out, "-p", "YFU19+TBPE15+TUQ38")
    assert result.returncode == 0, result.stderr
    assert_says(result.stderr, "Warning: three or more genes at once (YFU19+TBPE15+TUQ38)", "never evaluated")
    assert anndata.read_h5ad(out).n_obs == 1


def test_file_of_perturbations(refused: Refusal, tmp_path: Path) -> None:
    path = tmp_path / "set.csv"
    path.write_text("perturbation,n_controls\nYFU19,50\n")
    assert_says(refused("--perturbations", path, label="EKKN10"), "n_controls = 50", "40 control cells")


# --- cells ------------------------------------------------------------------------------------------------------------


def test_input_files_are_looked_for_before_the_bundle_is_loaded(refused: Refusal, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert_says(refused(bundle=nowhere, cells=tmp_path / "none.h5ad"), "none.h5ad: there is no such file")
    assert_says(refused("--perturbations", tmp_path / "none.txt", bundle=nowhere), "none.txt: there is no such file")


def test_bundle_and_cells_in_the_wrong_order(refused: Refusal, cells: Path, bundle: Path) -> None:
    for second in (bundle, Path("demo")):
        message = refused(bundle=cells, cells=second)
        assert_says(message, cells, "a bundle is a directory", "Give the bundle first")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_input_is_a_pipe(command_line: CommandLine, bundle: Path, out: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5ad")
    result = command_line("predict", bundle, tmp_path / "pipe.h5ad", "--out", out, "-p", GENE)
    assert result.returncode == 1
    assert "pipe.h5ad: " in result.stderr
    assert "not a regular file" in result.stderr


def test_input_truncated(refused: Refusal, cells: Path) -> None:
    cells.write_bytes(cells.read_bytes()[: cells.stat().st_size // 2])
    assert_says(refused(), cells, "truncated", "Copy, download or write the file again")


def test_no_control_cells(refused: Refusal, cells: Path, make_cells: MakeCells) -> None:
    adata = make_cells(40)
    adata.obs["condition"] = ["untreated"] * 30 + ["FOSB"] * 10
    adata.write_h5ad(cells)
    assert_says(refused(), cells, "'condition'", "'ctrl'", "'untreated' (30)", "--control-label untreated")


def test_more_control_cells_asked_for_than_there_are(refused: Refusal) -> None:
    assert_says(refused("--n-controls", "41"), "41 control cells", "the input has 40", "--sampling upstream")


def test_genes_missing_unless_taken_as_zero(
    refused: Refusal, command_line: CommandLine, bundle: Path, cells: Path, out: Path, make_cells: MakeCells
) -> None:
    adata = make_cells(40)
    adata[:, 7:].copy().write_h5ad(cells)
    message = refused()
    missing = adata.var_names[:7].tolist()
    assert_says(message, cells, "7 of the model's 24 genes", ", ".join(missing[:5]), "2 more", "--missing-genes zero")
    assert missing[5] not in message
    result = command_line("predict", bundle, cells, "--out", out, "-p", GENE, "--missing-genes", "zero")
    assert result.returncode == 0, result.stderr
    assert_says(result.stderr, "taken as not expressed (7)")
    adata.X[:, :7] = 0.0
    adata.write_h5ad(cells)
    result = command_line("predict", bundle, cells, "--out", out.with_name("zeros.h5ad"), "-p", GENE)
    zeros = anndata.read_h5ad(out.with_name("zeros.h5ad"))
    np.testing.assert_allclose(anndata.read_h5ad(out).X, zeros.X, rtol=1e-4, atol=2e-5)


def test_value_that_is_not_log_normalised(refused: Refusal, cells: Path, make_cells: MakeCells) -> None:
    adata = make_cells(40)
    adata.X[2, adata.var_names.get_loc(GENE)] = -0.5
    adata.write_h5ad(cells)
    assert_says(refused(), "cell 'cell2'", "gene 'YFU19'", "negative (-0.5)", "--allow-unnormalized")


def test_raw_counts_unless_allowed(
    refused: Refusal, command_line: CommandLine, bundle: Path, cells: Path, out: Path, make_cells: MakeCells
) -> None:
    adata = make_cells(40)
    adata.X = np.rint(np.expm1(adata.X))
    adata.write_h5ad(cells)
    assert_says(refused(), "raw counts", f"up to {adata.X.max():g}", "sc.pp.normalize_total(adata); sc.pp.log1p(adata)")
    result = command_line("predict", bundle, cells, "--out", out, "-p", GENE, "--allow-unnormalized")
    assert result.returncode == 0, result.stderr
    assert_says(result.stderr, "look like raw counts")


# --- bundle -----------------------------------------------------------------------------------------------------------


def damage_nothing_there(bundle: Path) -> None:
    shutil.rmtree(bundle)


def damage_no_manifest(bundle: Path) -> None:
    (bundle / "manifest.json").unlink()


def damage_byte_of_a_graph(bundle: Path) -> None:
    with (bundle / "ort_fp32.onnx").open("r+b") as stream:
        stream.seek(100_000)
        byte = stream.read(1)
        stream.seek(100_000)
        stream.write(bytes([byte[0] ^ 1]))


@pytest.mark.parametrize(
    ("damage", "facts"),
    [
        (damage_nothing_there, ["no such directory", "scgenept-export bundle"]),
        (damage_no_manifest, ["holds no manifest.json", "export did not finish"]),
        (damage_byte_of_a_graph, ["ort_fp32.onnx has changed: sha256", "again"]),
    ],
    ids=lambda value: value.__name__.removeprefix("damage_") if callable(value) else "",
)
def test_damaged_bundle(
    refused: Refusal, bundle: Path, tmp_path: Path, damage: Callable[[Path], None], facts: list[str]
) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    damage(copy)
    assert_says(refused(bundle=copy), copy, *facts)


# --- output: each is found before the bundle, which does not even exist here, is looked at ----------------------------


def test_output_exists(refused: Refusal, tmp_path: Path, out: Path) -> None:
    out.write_text("precious")
    assert_says(refused(bundle=tmp_path / "nowhere"), out, "exists already", "--overwrite")


def test_output_of_the_cells_exists_where_both_are_written(refused: Refusal, tmp_path: Path) -> None:
    cells_out = tmp_path / "out.cells.h5ad"
    cells_out.write_text("precious")
    assert_says(refused("--aggregate", "both", bundle=tmp_path / "nowhere"), cells_out, "exists already")


def test_output_is_the_input_also_under_another_name(refused: Refusal, tmp_path: Path, cells: Path) -> None:
    assert_says(refused("--overwrite", out=cells, bundle=tmp_path / "nowhere"), cells, "the input file itself")
    link = tmp_path / "link.h5ad"
    link.symlink_to(cells)
    assert_says(refused("--overwrite", out=link, bundle=tmp_path / "nowhere"), link, "the input file itself")


# --- options ----------------------------------------------------------------------------------------------------------


def test_max_error_goes_with_means_alone(refused: Refusal) -> None:
    assert_says(refused("--max-error", "0.1", "--aggregate", "cells"), "max_error has no meaning", "aggregate")


def test_the_control_is_no_perturbation_in_the_cell_eval_format(refused: Refusal) -> None:
    assert_says(refused("--for-cell-eval", label="ctrl"), "'ctrl'", "cell-eval", "Leave the perturbation ctrl out")


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["BUNDLE", "CELLS", "--out", "OUT"], "give perturbations with -p"),
        (["BUNDLE", "CELLS", "-p", GENE], "--out"),
        (["BUNDLE", "CELLS", "--out", "OUT", "-p", GENE, "--batch-size", "1" + "0" * 30], "--batch-size"),
        (["BUNDLE", "CELLS", "--out", "OUT", "-p", GENE, "--frobnicate"], "--frobnicate"),
        (["BUNDLE", "CELLS", "--out", "O", "-p", GENE, "--for-cell-eval", "--aggregate", "both"], "writes cells only"),
        (["BUNDLE", "CELLS", "--out", "O", "-p", GENE, "--cell-eval-column", "gene"], "--for-cell-eval"),
    ],
)
def test_wrong_usage_exits_with_2(command_line: CommandLine, arguments: list[str], fact: str) -> None:
    result = command_line("predict", *arguments)
    assert result.returncode == 2
    assert fact in result.stderr
    assert "Traceback" not in result.stderr


def test_debug_shows_the_traceback(command_line: CommandLine, tmp_path: Path, cells: Path) -> None:
    arguments = ["predict", tmp_path / "nowhere", cells, "--out", tmp_path / "out.h5ad", "-p", GENE]
    for placed in (["--debug", *arguments], [*arguments, "--debug"]):
        result = command_line(*placed)
        assert result.returncode == 1
        assert "Traceback (most recent call last)" in result.stderr
        assert "BundleNotFoundError" in result.stderr
