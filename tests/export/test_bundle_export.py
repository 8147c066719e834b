from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest
import torch

from scgenept_export import bundle_export
from scgenept_export.bundle_export import export_bundle
from scgenept_export.checkpoint import load_checkpoint
from scgenept_export.errors import CheckpointError, ExportWarning, GeneListError, VocabularyError
from scgenept_export.gene_list import GeneList
from scgenept_export.graph_check import GraphCheck
from scgenept_export.onnx_graph import write_graph
from scgenept_export.torch_backend import write_reference_weights
from scgenept_rt.bundle import Bundle
from scgenept_rt.compatibility import check_cells
from scgenept_rt.errors import ArgumentError, OutputError, OutputExistsError
from scgenept_rt.files.hashing import sha256_of

if TYPE_CHECKING:
    from tests.conftest import Oracle

GO_C = "scgenept_go_c_gpt_concat"
OracleBundle = Callable[[str], Path]


def contents(directory: Path) -> dict[str, str]:
    return {entry.name: sha256_of(entry) for entry in directory.iterdir()}


def raising(error: BaseException) -> Callable[..., None]:
    def break_off(*_: Any) -> None:
        raise error

    return break_off


@pytest.fixture
def export(oracle: Oracle) -> Callable[..., Bundle]:
    """Export the oracle's GO-C variant, in fp32 unless told otherwise."""

    def export_with(out: Path, **options: Any) -> Bundle:
        inputs = {"checkpoint": oracle.checkpoint(GO_C), "genes": oracle.h5ad, "variant": GO_C, "vocab": oracle.vocab}
        return export_bundle(**{**inputs, "out": out, "precisions": ("fp32",), **options})

    return export_with


# --- what a bundle says of itself -------------------------------------------------------------------------------------


def test_manifest_states_the_network_and_its_source(oracle: Oracle, oracle_bundle: OracleBundle) -> None:
    manifest = Bundle.open(oracle_bundle(GO_C)).manifest
    golden = oracle.golden(GO_C)
    assert (manifest.variant, manifest.dataset, manifest.synthetic) == (GO_C, "norman", True)
    assert list(manifest.gene_names) == golden["gene_names"].tolist()
    assert manifest.gene_ids == tuple(f"ENSG{number:011d}" for number in range(24))
    assert manifest.in_vocab == tuple((golden["in_vocab"] == 1).tolist())
    assert manifest.encoders == ("encoder", "value_encoder", "gopt_encoder_c")
    sizes = manifest.dimensions
    assert (sizes.n_genes, sizes.n_table_genes, sizes.d_model, sizes.n_layers, sizes.n_heads) == (24, 24, 64, 3, 8)
    assert manifest.source_checkpoint.name == oracle.checkpoint(GO_C).name
    assert manifest.source_checkpoint.sha256 == sha256_of(oracle.checkpoint(GO_C))
    assert manifest.versions["torch"] == version("torch")
    assert {"python", "onnx", "onnxruntime"} <= set(manifest.versions)
    assert set(manifest.tolerances) == {"fp32", "fp16"}
    assert manifest.tolerances["fp32"].atol < manifest.tolerances["fp16"].atol < 0.05


def test_manifest_lists_every_other_file_of_the_directory(oracle_bundle: OracleBundle) -> None:
    directory = oracle_bundle(GO_C)
    manifest = Bundle.open(directory).manifest
    listed = {file.path: file.sha256 for file in manifest.files}
    on_disk = contents(directory)
    del on_disk["manifest.json"]
    assert listed == on_disk
    assert "reference.npz" in listed
    assert {file.path: (file.precision, file.target) for file in manifest.files if file.path.endswith(".onnx")} == {
        "ort_fp32.onnx": ("fp32", "ort"),
        "ort_fp16.onnx": ("fp16", "ort"),
        "merged_fp32.onnx": ("fp32", "merged"),
        "portable_fp32.onnx": ("fp32", "portable"),
        "portable_fp16.onnx": ("fp16", "portable"),
    }
    assert all(file.precision is file.target is None for file in manifest.files if not file.path.endswith(".onnx"))


def test_default_is_both_precisions_for_onnx_runtime_and_the_options_change_that(
    oracle: Oracle, export: Callable[..., Bundle], copy_graphs: None, tmp_path: Path
) -> None:
    default = export_bundle(oracle.checkpoint(GO_C), oracle.genes, GO_C, tmp_path / "default", vocab=oracle.vocab)
    assert [(graph.target, graph.precision) for graph in default.graphs()] == [
        ("ort", "fp32"), ("ort", "fp16"), ("merged", "fp32")
    ]  # fmt: skip
    assert default.manifest.gene_ids == (None,) * 24
    assert (default.manifest.dataset, default.manifest.synthetic) == ("unknown", False)
    half = export(tmp_path / "half", precisions=("fp16",), portable=True)
    assert [(graph.target, graph.precision) for graph in half.graphs()] == [("ort", "fp16"), ("portable", "fp16")]
    assert set(half.manifest.tolerances) == {"fp32", "fp16"}  # fp32 is what PyTorch runs, whatever the graphs


def test_fp16_that_misses_its_bound_keeps_its_biases(
    export: Callable[..., Bundle],
    oracle_bundle: OracleBundle,
    copy_graphs: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    copy, answers = bundle_export.write_graph, iter([["fp16 misses its bound"], []])
    monkeypatch.setattr(
        bundle_export, "write_graph", lambda *args, **apart: (write_graph if apart else copy)(*args, **apart)
    )
    monkeypatch.setattr(GraphCheck, "misses", lambda *_: next(answers))
    (graph,) = export(tmp_path / "bundle", precisions=("fp16",)).graphs()
    merged, apart = (
        Counter(node.op_type for node in onnx.load(directory / graph.path).graph.node)
        for directory in (oracle_bundle(GO_C), tmp_path / "bundle")
    )
    assert apart["Relu"] == merged["Max"] > 0
    assert apart["Max"] == merged["Relu"] == 0


def test_a_second_export_on_this_machine_writes_the_same_bytes(
    export: Callable[..., Bundle], copy_graphs: None, tmp_path: Path
) -> None:
    first, second = export(tmp_path / "first"), export(tmp_path / "second")
    assert first.digest == second.digest


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_an_unusable_input_leaves_nothing(export: Callable[..., Bundle], tmp_path: Path) -> None:
    out = tmp_path / "bundles" / "out"
    for inputs, error in (
        ({"checkpoint": tmp_path / "nowhere.pt"}, CheckpointError),
        ({"genes": tmp_path / "nowhere.txt"}, GeneListError),
        ({"vocab": tmp_path / "nowhere.json"}, VocabularyError),
        ({"vocab": None}, VocabularyError),  # the census vocabulary, which has 60,697 tokens and not 36
        ({"n_heads": 7}, ArgumentError),
    ):
        with pytest.raises(error):
            export(out, **inputs)
    assert not out.exists()
    assert list(out.parent.iterdir()) == []


def test_other_genes_than_the_data_sets_are_told(
    export: Callable[..., Bundle], oracle: Oracle, copy_graphs: None, tmp_path: Path
) -> None:
    notices: list[str] = []
    export(tmp_path / "norman", dataset="norman", on_notice=notices.append)
    assert any("not the 5,045 of the Norman data" in notice for notice in notices)
    with pytest.warns(ExportWarning, match="not the 5,060 of the Adamson data"):
        bundle = export(tmp_path / "adamson", dataset="adamson")
    report = check_cells(bundle, oracle.h5ad, provider="cpu")
    assert any("not the 5,060 of the Adamson data" in entry.text for entry in report.findings)


def test_genes_of_another_naming_are_refused(export: Callable[..., Bundle], tmp_path: Path) -> None:
    genes = GeneList(("ENSG00000000000", "ENSG00000000001"), (None, None))
    with pytest.raises(VocabularyError, match=r"none of the 2 model genes .* Ensembl ids\?"):
        export(tmp_path / "out", genes=genes)


def test_an_occupied_directory_needs_overwrite(export: Callable[..., Bundle], tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"exists and is not empty.*overwrite=True"):
        export(out)
    with pytest.raises(OutputExistsError, match="not a bundle, and is not replaced"):
        export(out, overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("out", ["file", "file/out", ".", ".."])
def test_a_path_that_cannot_be_a_directory_is_refused_before_anything_is_read(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty" if out.startswith(".") else tmp_path)
    with pytest.raises(OutputError, match=f"{re.escape(out)}: "):
        export_bundle(tmp_path / "nowhere.pt", tmp_path / "nowhere", GO_C, out, overwrite=True)
    assert (tmp_path / "file").read_text() == "mine"


# --- replacing --------------------------------------------------------------------------------------------------------


@pytest.fixture
def existing(oracle_bundle: OracleBundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(oracle_bundle(GO_C), tmp_path / "bundles" / "existing"))


@pytest.mark.parametrize("through_link", [False, True])
def test_overwrite_replaces_a_bundle_and_what_a_link_names(
    through_link: bool, existing: Path, export: Callable[..., Bundle], copy_graphs: None, tmp_path: Path
) -> None:
    link = tmp_path / "latest"
    link.symlink_to(existing)
    export(link if through_link else existing, dataset="adamson", overwrite=True)
    assert link.is_symlink()
    assert Bundle.open(existing).manifest.dataset == "adamson"
    assert set(contents(existing)) == {"manifest.json", "reference.npz", "ort_fp32.onnx", "merged_fp32.onnx"}
    assert sorted(entry.name for entry in (*tmp_path.iterdir(), *existing.parent.iterdir())) == [
        "bundles",
        "existing",
        "latest",
    ]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_an_export_that_breaks_off_leaves_the_existing_bundle(
    error: BaseException, existing: Path, export: Callable[..., Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(existing)
    monkeypatch.setattr(bundle_export, "write_graph", raising(error))
    expected = OutputError if isinstance(error, OSError) else KeyboardInterrupt
    with pytest.raises(expected, match="No space left on device" if isinstance(error, OSError) else None):
        export(existing, overwrite=True)
    assert contents(existing) == before
    assert [entry.name for entry in existing.parent.iterdir()] == ["existing"]


def test_reference_weights_on_a_full_disk_are_an_error(oracle: Oracle, full_device: Path) -> None:
    loaded = load_checkpoint(oracle.checkpoint(GO_C), GO_C)
    with pytest.raises(OSError, match="No space left"):
        write_reference_weights(loaded, torch.arange(3), full_device)


def test_a_checkpoint_that_changes_while_it_is_read_is_refused(
    oracle: Oracle, export: Callable[..., Bundle], copy_graphs: None, tmp_path: Path
) -> None:
    checkpoint = Path(shutil.copyfile(oracle.checkpoint(GO_C), tmp_path / "training.pt"))

    def touch(step: str) -> None:
        if "checking" in step:
            os.utime(checkpoint, ns=(0, 0))

    with pytest.raises(CheckpointError, match=r"training\.pt: changed while it was read"):
        export(tmp_path / "out", checkpoint=checkpoint, progress=touch)
    assert [entry.name for entry in tmp_path.iterdir()] == ["training.pt"]


# --- killed exports ---------------------------------------------------------------------------------------------------


def test_a_kill_at_any_moment_leaves_a_whole_bundle_or_none_and_the_next_export_works(
    oracle: Oracle, oracle_bundle: OracleBundle, tmp_path: Path
) -> None:
    out = tmp_path / "bundles" / "out"
    out.parent.mkdir()
    inputs = {"checkpoint": oracle.checkpoint(GO_C), "genes": oracle.h5ad, "vocab": oracle.vocab}
    options = {**inputs, "variant": GO_C, "out": out, "graphs": oracle_bundle(GO_C)}
    script = Path(__file__).with_name("killed_exports.py")
    ended = subprocess.run(
        [sys.executable, script, json.dumps(options, default=str)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    all_runs = [json.loads(line) for line in ended.stdout.splitlines()]
    for replacing in (False, True):
        runs = [run for run in all_runs if run["replacing"] == replacing]
        assert len(runs) > 5  # at least: directory, graph, reference cells, manifest, renaming
        assert [run["killed"] for run in runs] == [True] * (len(runs) - 1) + [False]
        assert not any(run["failed"] for run in runs), ended.stderr
        assert runs[-1]["bundles"] == {"out": True}
        at_out = [run["bundles"].get("out") for run in runs]
        if replacing:
            assert False not in at_out, "what lies there is a whole bundle, old or new"
            # Between two renames there is none; the old one lies beside it then.
            assert at_out.count(None) <= 1
            assert all(run["bundles"].get("out") or run["bundles"][".out.replaced"] for run in runs)
        else:
            assert at_out[:-1] == [None] * (len(runs) - 1)
    assert Bundle.open(out).manifest.dataset == "new"


def test_what_a_kill_between_the_renames_left_is_cleared_by_the_next_export(
    existing: Path, export: Callable[..., Bundle], copy_graphs: None
) -> None:
    existing.rename(existing.with_name(".existing.replaced"))
    shutil.copytree(existing.with_name(".existing.replaced"), existing.with_name(".existing.partial"))
    export(existing, dataset="new")
    assert Bundle.open(existing).manifest.dataset == "new"
    assert [entry.name for entry in existing.parent.iterdir()] == ["existing"]


def test_weights_that_are_not_finite_are_refused_with_the_checkpoints_name(
    oracle: Oracle, export: Callable[..., Bundle], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = torch.load(oracle.checkpoint(GO_C), map_location="cpu", weights_only=True)
    weights["gopt_encoder_c.embedding.weight"][0, 0] = torch.nan
    torch.save(weights, tmp_path / "diverged.pt")
    with pytest.raises(CheckpointError, match=r"diverged\.pt.*NaN"):
        export(tmp_path / "out", checkpoint=tmp_path / "diverged.pt")
    weights["gopt_encoder_c.embedding.weight"][:] = torch.nan
    torch.save(weights, tmp_path / "diverged.pt")
    monkeypatch.setattr("scgenept_export.checkpoint._CHECKED_NUMBERS", 0)  # as if all tables were of full size
    with pytest.raises(CheckpointError, match=r"diverged\.pt: holds NaN .* embeddings of"):
        export(tmp_path / "out", checkpoint=tmp_path / "diverged.pt")
