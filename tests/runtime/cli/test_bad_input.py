"""What a user gets who made a mistake: exit code 1, one message with the facts, and nothing written."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import anndata
import numpy as np
import pytest

import scgenept_rt as sgr
from scgenept_rt.cli.model import requested
from scgenept_rt.errors import PerturbationFileError, UnknownGeneError
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
    monkeypatch.setattr("scgenept_rt.perturbation.labels.pairs_of", lambda _: pytest.fail("pairs were made"))
    with pytest.raises(UnknownGeneError):
        requested({"pairs_of": genes}, tmp_path, {})(model.panel)


def test_pairs_are_made_of_genes_and_not_of_pairs(model: sgr.Predictor, tmp_path: Path) -> None:
    genes = tmp_path / "genes.txt"
    genes.write_text("YFU19\nEKKN10\nYFU19+ctrl\n")  # the last is the first again
    assert requested({"pairs_of": genes}, tmp_path, {})(model.panel) == ["YFU19+EKKN10"]
    genes.write_text("YFU19\nEKKN10+SWR9\n")  # would be three genes at once
    with pytest.raises(PerturbationFileError, match=r"genes.txt: EKKN10\+SWR9"):
        requested({"pairs_of": genes}, tmp_path, {})(model.panel)


# --- cells ------------------------------------------------------------------------------------------------------------


def test_input_files_are_looked_for_before_the_bundle_is_loaded(refused: Refusal, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    assert_says(refused(bundle=nowhere, cells=tmp_path / "none.h5ad"), "none.h5ad: there is no such file")
    assert_says(refused("--perturbations", tmp_path / "none.txt", bundle=nowhere), "none.txt: there is no such file")


def test_a_subgroup_that_is_not_there_is_found_before_the_bundle_is_opened(command_line: CommandLine) -> None:
    options = ["--split", "norman-simulation-1", "--subgroup", "combo"]
    result = command_line("evaluate", "nowhere", "none.h5ad", *options)
    assert result.returncode == 1
    assert_says(result.stderr, "the subgroup 'combo'", "combo_seen0")


def test_bundle_and_cells_in_the_wrong_order(refused: Refusal, cells: Path, bundle: Path) -> None:
    for second in (bundle, Path("demo")):
        message = refused(bundle=cells, cells=second)
        assert_says(message, cells, "a bundle is a directory", "Give the bundle first")


def no_controls(adata: anndata.AnnData) -> None:
    adata.obs["condition"] = ["untreated"] * 30 + ["FOSB"] * 10


def genes_missing(adata: anndata.AnnData) -> None:
    adata._inplace_subset_var(slice(7, None))


def negative(adata: anndata.AnnData) -> None:
    adata.X[2, adata.var_names.get_loc(GENE)] = -0.5


def raw_counts(adata: anndata.AnnData) -> None:
    adata.X = np.rint(np.expm1(adata.X))


@pytest.mark.parametrize(
    ("change", "facts"),
    [
        (no_controls, ["'condition'", "'untreated' (30 cells)", "--control-label untreated"]),
        (genes_missing, ["7 of the model's 24 genes", "--missing-genes zero"]),
        (negative, ["cell 'cell2'", "gene 'YFU19'", "negative (-0.5)", "--allow-unnormalized"]),
        (raw_counts, ["raw counts", "sc.pp.normalize_total(adata); sc.pp.log1p(adata)"]),
    ],
)
def test_cells_that_cannot_be_used_are_refused_with_the_flag_that_helps(
    refused: Refusal, cells: Path, make_cells: MakeCells, change: Callable[[anndata.AnnData], None], facts: list[str]
) -> None:
    adata = make_cells(40)
    change(adata)
    adata.write_h5ad(cells)
    assert_says(refused(), cells, *facts)


def test_more_control_cells_asked_for_than_there_are(refused: Refusal) -> None:
    assert_says(refused("--n-controls", "41"), "41 control cells", "the input has 40", "--sampling upstream")


def test_damaged_bundle(refused: Refusal, bundle_copy: Path) -> None:
    with (bundle_copy / "ort_fp32.onnx").open("r+b") as stream:
        stream.write(b"damage")
    assert_says(refused(bundle=bundle_copy), bundle_copy, "ort_fp32.onnx has changed: sha256", "again")


# --- output: each is found before the bundle, which does not even exist here, is looked at ----------------------------


def test_output_exists(refused: Refusal, tmp_path: Path, out: Path) -> None:
    cells_out = tmp_path / "out.cells.h5ad"
    cells_out.write_text("precious")
    assert_says(refused("--aggregate", "both", bundle=tmp_path / "nowhere"), cells_out, "exists already", "--overwrite")


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
