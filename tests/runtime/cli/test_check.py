from __future__ import annotations

import io
import json
import shlex
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from scgenept_rt.bundle import Bundle, demo_bundle_path
from scgenept_rt.cli.genes import genes
from scgenept_rt.demo import demo_control_cells

BUNDLE = str(demo_bundle_path())
N_CELLS = 6


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    demo_control_cells(N_CELLS).write_h5ad(path)
    return path


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half of the genes, scaled values, two control labels; raw is right."""
    adata = demo_control_cells(N_CELLS)
    conditions = ["ctrl"] * 3 + ["control"] * 3
    dense = adata.X.toarray()
    changed = anndata.AnnData(
        (dense - dense.mean(0))[:, ::2],
        obs=pd.DataFrame({"condition": conditions}, index=adata.obs_names),
        var=adata.var.iloc[::2],
    )
    changed.raw = anndata.AnnData(dense, obs=changed.obs, var=adata.var)
    path = tmp_path_factory.mktemp("cells") / "it is broken.h5ad"
    changed.write_h5ad(path)
    return path


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


def test_check_of_a_good_file_prints_a_page_and_a_command_that_works(cells, monkeypatch, tmp_path, run):
    code, page, error = run("check", BUNDLE, str(cells), "--provider", "cpu")
    assert (code, error) == (0, "")
    assert "problem" not in page
    assert f"{N_CELLS} control cells of {N_CELLS}: obs column 'condition', label 'ctrl'" in " ".join(page.split())
    assert "5,045 by Ensembl id" in " ".join(page.split())
    assert "This file will work:" in page
    assert len(page.splitlines()) < 60
    assert max(len(line) for line in page.splitlines()[3:-1]) <= 100
    command = shlex.split(page.splitlines()[-1])
    monkeypatch.chdir(tmp_path)
    assert command[4:6] == ["--provider", "cpu"]
    assert run(*command[1:])[0] == 0
    assert anndata.read_h5ad(tmp_path / "predicted.h5ad").shape == (1, 5045)


def test_check_of_a_broken_file_reports_every_problem(broken, run):
    code, page, error = run("check", BUNDLE, str(broken), "--provider", "cpu")
    assert (code, error) == (1, "")
    problems = [line.split()[1] for line in page.splitlines() if line.startswith("problem")]
    assert problems == ["labels", "genes", "scale"]
    assert "-> Pass --control-label ctrl to choose one, or" in page
    assert "Pass --missing-genes zero to take missing genes as not expressed, or --use-raw to read raw" in " ".join(
        page.split()
    )
    assert "3 problems" in page

    followed = ("--control-label", "ctrl", "--use-raw")
    code, page, error = run("check", BUNDLE, str(broken), "--provider", "cpu", *followed)
    assert code == 0
    assert shlex.split(page.splitlines()[-1])[4:9] == ["--use-raw", "--control-label", "ctrl", "--provider", "cpu"]


def test_check_json_has_the_same_facts(broken, run):
    options = ["--provider", "cpu", "--control-label", "ctrl", "--json"]
    code, text, _ = run("check", BUNDLE, str(broken), *options)
    facts = json.loads(text)
    assert code == 1
    assert list(facts) == [
        *("format", "works", "bundle", "cells", "options", "findings", "labels", "genes", "values", "run"),
    ]
    assert facts["works"] is False
    assert facts["cells"] == {"path": str(broken), "n_obs": N_CELLS, "n_vars": 2523}
    assert {finding["status"] for finding in facts["findings"]} == {"ok", "note", "problem"}
    assert facts["genes"]["n_found"] == 2523
    assert facts["values"]["minimum"] < 0
    assert facts["run"]["n_controls"] == 3


def test_check_of_a_file_that_is_not_there_prints_the_page_too(tmp_path, run):
    code, page, error = run("check", BUNDLE, str(tmp_path / "none.h5ad"), "--provider", "cpu")
    assert (code, error) == (1, "")
    assert "there is no such file or directory." in page
    assert "Check the path." in page


# --- genes ------------------------------------------------------------------------------------------------------------


def test_genes_lists_all_as_tab_separated_lines(run):
    code, text, error = run("genes", BUNDLE)
    assert (code, error) == (0, "")
    table = pd.read_csv(io.StringIO(text), sep="\t", keep_default_na=False)
    manifest = Bundle.open(BUNDLE).manifest
    assert list(table.columns) == ["gene_name", "gene_id", "in_vocab"]
    assert table["gene_name"].tolist() == list(manifest.gene_names)
    assert table["gene_id"].tolist() == [gene_id or "" for gene_id in manifest.gene_ids]
    assert np.array_equal(table["in_vocab"] == "yes", manifest.in_vocab)


@pytest.mark.parametrize("search", [" fosb ", "ensg00000125740.14"])
def test_genes_searches_names_and_ids_in_any_case(search, run):
    code, text, _ = run("genes", BUNDLE, "--search", search)
    assert code == 0
    assert text.splitlines()[1:] == ["FOSB\tENSG00000125740\tyes"]


def test_genes_in_vocab_and_json(run):
    _, text, _ = run("genes", BUNDLE, "--in-vocab", "--json")
    found = json.loads(text)
    assert len(found) == 4547
    assert found[0] == {"gene_name": "RP11-34P13.8", "gene_id": "ENSG00000239945", "in_vocab": True}


def test_genes_without_a_match_suggests_near_spellings(run):
    code, text, error = run("genes", BUNDLE, "--search", "FOSBX")
    assert (code, text) == (1, "")
    assert error == (
        "error: none of the model's 5,045 genes has 'FOSBX' in its name or Ensembl id. Did you mean FOSB or FOS?\n"
    )
    code, text, error = run("genes", BUNDLE, "--search", "c3orf72", "--in-vocab")
    assert (code, text) == (1, "")
    assert "(C3orf72)" in error
    assert "without --in-vocab" in error


def test_genes_are_columns_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    genes(bundle=BUNDLE, search="C3orf", in_vocab=False, json_output=False)
    assert capsys.readouterr().out.splitlines() == [
        "gene_name  gene_id          in_vocab",
        "C3orf49    ENSG00000163632  yes",
        "C3orf72    ENSG00000206262  no",
    ]
