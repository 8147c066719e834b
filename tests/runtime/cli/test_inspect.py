"""`scgenept-rt inspect`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csc_matrix

import scgenept_rt as sgr
from scgenept_rt.bundle import MANIFEST_NAME, Bundle
from scgenept_rt.cli.inspect import inspect
from scgenept_rt.errors import CellsFormatError, PartialOutputError, ShardsError
from scgenept_rt.output.destination import open_table
from scgenept_rt.output.shards import merge_shards
from scgenept_rt.output.table_spec import TableSpec
from tests.commands import CommandLine
from tests.runtime.conftest import CELLS

FactsOf = Callable[[Path], dict[str, Any]]


def test_says_what_every_file_is_for(command_line: CommandLine, bundle: Path) -> None:
    shown = command_line("inspect", bundle)
    assert shown.returncode == 0, shown.stderr
    lines = shown.stdout.splitlines()
    assert lines[0] == "SYNTHETIC weights: predictions of this bundle mean nothing in biology."
    assert lines[2].split() == ["variant", "scgenept_go_c_gpt_concat"]
    assert any(line.startswith("genes        24, 21 in the vocabulary") for line in lines)
    for file in Bundle.open(bundle).manifest.files:
        (line,) = (line for line in lines if line.split()[:1] == [file.path])
        assert f"{file.size / 1e6:.2f} MB" in line
    assert next(line for line in lines if "ort_fp16.onnx" in line).endswith("MB  fp16, for cpu and cuda")


def test_json_is_the_manifests_facts(command_line: CommandLine, bundle: Path) -> None:
    facts = json.loads(command_line("inspect", bundle, "--json").stdout)
    opened = Bundle.open(bundle)
    assert facts["manifest_digest"] == opened.digest
    assert facts["dimensions"]["n_genes"] == 24
    assert {file["path"] for file in facts["files"]} == {file.path for file in opened.manifest.files}


@pytest.mark.parametrize(("field", "value", "shown_as"), [("target", "tomorrow", "fp16"), ("precision", "fp8", "fp8")])
def test_a_graph_that_only_a_later_version_knows_is_no_obstacle(
    command_line: CommandLine, bundle_copy: Path, field: str, value: str, shown_as: str
) -> None:
    path = bundle_copy / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    (graph,) = (file for file in manifest["files"] if file["path"] == "portable_fp16.onnx")
    graph[field] = value
    path.write_text(json.dumps(manifest))
    shown = command_line("inspect", bundle_copy)
    assert shown.returncode == 0, shown.stderr
    line = next(line for line in shown.stdout.splitlines() if "portable_fp16.onnx" in line)
    assert line.endswith(f"{shown_as}, for another version of scgenept-rt")
    assert command_line("verify", bundle_copy, "--provider", "cpu").returncode == 0


@pytest.mark.parametrize(("command", "provider"), [("verify", "auto"), ("predict", "cpu")])
def test_where_only_a_later_version_knows_the_graphs_that_is_said(
    command_line: CommandLine, bundle_copy: Path, tmp_path: Path, command: str, provider: str
) -> None:
    path = bundle_copy / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    manifest["files"] = [file for file in manifest["files"] if file.get("target") in (None, "ort")]
    for file in manifest["files"]:
        if file.get("target") == "ort":
            file["target"] = "tomorrow"
    path.write_text(json.dumps(manifest))
    of_command = ["--out", tmp_path / "out.h5ad", "-p", "ctrl"] if command == "predict" else []
    inputs = [bundle_copy, CELLS] if command == "predict" else [bundle_copy]
    refused = command_line(command, *inputs, "--provider", provider, *of_command)
    assert refused.returncode == 1
    assert "knows none of its graphs (fp32 for tomorrow, fp16 for tomorrow)" in refused.stderr
    assert "Update scgenept-rt, or export the bundle again" in refused.stderr
    assert not (tmp_path / "out.h5ad").exists()


PAIR = "EKKN10+YFU19"


@pytest.fixture
def facts_of(capsys: pytest.CaptureFixture[str]) -> FactsOf:
    """Return a function that inspects a file, and returns the facts of --json; `page` is what is printed without."""

    def facts_of(path: Path) -> dict[str, Any]:
        inspect(path=path, json_output=False)
        page = capsys.readouterr().out
        inspect(path=path, json_output=True)
        return {**json.loads(capsys.readouterr().out), "page": page}

    return facts_of


@pytest.fixture
def cells(make_cells: Callable[..., anndata.AnnData]) -> anndata.AnnData:
    """20 control cells of two types."""
    cells = make_cells(20)
    cells.obs["cell_type"] = ["T cell"] * 12 + ["B cell"] * 8
    return cells


def test_predictions_are_told_with_commands_that_run(
    command_line: CommandLine, facts_of: FactsOf, model: sgr.Predictor, cells: anndata.AnnData, tmp_path: Path
) -> None:
    path = tmp_path / "means.h5ad"
    model.predict_file(cells, path, ["YFU19", PAIR], groupby="cell_type", n_controls=9, seed=4)
    facts = facts_of(path)
    assert facts["perturbations"] == {"YFU19": 17, PAIR: 17}
    assert (facts["groupby"], set(facts["groups"])) == ("cell_type", {"T cell", "B cell"})
    assert (facts["synthetic"], facts["settings"]["seed"], facts["settings"]["provider"]) == (True, 4, "cpu")
    assert any("8" in notice and "B cell" in notice for notice in facts["notices"])
    assert facts["page"].startswith("SYNTHETIC")
    commands = [shlex.split(command)[1:] for command in facts["next"]]
    assert {"table", "rank", "plot", "evaluate"} == {command[0] for command in commands}
    assert all(shlex.join(command) in facts["page"] for command in commands)
    (table,) = (command for command in commands if command[0] == "table")
    assert command_line(*table).returncode == 0
    assert path.with_suffix(".csv").exists()


def test_cells_and_the_format_of_cell_eval(
    facts_of: FactsOf, model: sgr.Predictor, cells: anndata.AnnData, tmp_path: Path
) -> None:
    model.predict_file(cells, tmp_path / "cells.zarr", PAIR, aggregate="cells")
    facts = facts_of(tmp_path / "cells.zarr")
    assert (facts["aggregate"], facts["perturbations"]) == ("cells", {PAIR: 20})
    assert not any(" rank " in command for command in facts["next"])  # it needs the layer delta
    path = tmp_path / "for cell-eval.h5ad"
    model.predict_file(cells, path, PAIR, aggregate="cells", for_cell_eval=True)
    facts = facts_of(path)
    (command,) = facts["next"]
    assert shlex.split(command)[:4] == ["cell-eval", "run", "-ap", str(path)]
    assert command.endswith("--pert-col condition --control-pert ctrl")
    assert "20 control cells" in facts["page"]


def test_parts_of_a_run(facts_of: FactsOf, model: sgr.Predictor, cells: anndata.AnnData, tmp_path: Path) -> None:
    out = tmp_path / "means.h5ad"
    (first,) = model.predict_file(cells, out, ["YFU19", PAIR], shard="1/2")
    facts = facts_of(first)
    assert (facts["shard"], facts["output"], facts["next"]) == ({"number": 1, "count": 2}, str(out), [])
    assert "2/2" in facts["missing"]
    with pytest.raises(ShardsError, match="2/2"):
        inspect(path=out, json_output=False)
    model.predict_file(cells, out, ["YFU19", PAIR], shard="2/2")
    for path in (first, out):
        assert facts_of(path)["next"] == [f"scgenept-rt merge {out}"]
    merge_shards(out)
    assert facts_of(out)["shard"] is None


@pytest.mark.parametrize("ending", [".h5ad", ".zarr"])
def test_an_unfinished_run(facts_of: FactsOf, model: sgr.Predictor, tmp_path: Path, ending: str) -> None:
    out, labels = tmp_path / f"means{ending}", ["YFU19", PAIR, "EKKN10"]
    obs, var = pd.DataFrame({"condition": labels, "n_controls": 5}, labels), pd.DataFrame(index=model.gene_names)
    spec = TableSpec("mean", obs, var, ("delta",), {"seed": 1})
    with open_table(out, spec, settings={}) as table:
        row = np.zeros((2, len(var)), np.float32)
        table.write({"X": row, "layers/delta": row, "obs/n_controls": np.array([5, 5])})
        table.commit()
    for path in (out, out.with_name(f"{out.name}.partial")):
        facts = facts_of(path)
        assert (facts["n_safe"], facts["n_rows"], facts["next"]) == (2, 3, [])
        assert list(facts["perturbations"]) == labels
        assert "2 of 3 rows" in facts["page"]
    (tmp_path / f"{out.name}.partial" / "journal.json").write_text("{")
    with pytest.raises(PartialOutputError):
        inspect(path=out, json_output=False)


def test_data_are_told_by_what_check_finds(facts_of: FactsOf, cells: anndata.AnnData, tmp_path: Path) -> None:
    cells.obs["condition"] = ["ctrl"] * 15 + ["nan"] * 3 + [PAIR] * 2
    cells.layers["counts"] = cells.X.copy()
    cells.obs["n_umi"] = np.arange(20.0)
    path = tmp_path / "data.h5ad"
    cells.write_h5ad(path)
    facts = facts_of(path)
    assert (facts["kind"], facts["n_obs"], facts["n_vars"], facts["layers"]) == ("cells", 20, 24, ["counts"])
    assert (facts["condition_key"], facts["control_labels"], facts["n_control_cells"]) == ("condition", ["ctrl"], 15)
    examples = {"condition": {"ctrl": 15, "nan": 3, PAIR: 2}, "cell_type": {"T cell": 12, "B cell": 8}, "n_umi": {}}
    assert {column["name"]: column["examples"] for column in facts["obs"]} == examples
    assert [command.split()[1] for command in facts["next"]] == ["check", "predict", "predict", "plot"]
    assert f"-p {PAIR}" in facts["next"][1]
    assert any("--groupby cell_type" in finding["step"] for finding in facts["findings"])


def test_what_is_wrong_with_data_is_told_with_the_option_of_predict(
    facts_of: FactsOf, cells: anndata.AnnData, tmp_path: Path
) -> None:
    cells.obs = cells.obs.drop(columns="condition").assign(guide=["NT"] * 15 + ["KLF1"] * 5)
    cells.X = csc_matrix(cells.X)
    path = tmp_path / "data.h5ad"
    cells.write_h5ad(path)
    facts = facts_of(path)
    (labels, scale) = facts["findings"]
    assert (labels["topic"], labels["status"]) == ("labels", "problem")
    assert "--condition-key guide" in labels["step"]
    assert (scale["topic"], scale["status"], facts["values"]) == ("scale", "note", None)  # all of X would be read
    assert facts["next"] == [f"scgenept-rt check BUNDLE {path}"]


def test_a_damaged_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "data.h5ad"
    path.write_bytes(b"\x89HDF\r\n\x1a\n damaged")
    with pytest.raises(CellsFormatError) as error:
        inspect(path=path, json_output=False)
    assert (error.value.where, str(error.value).count("\n")) == (str(path), 0)
