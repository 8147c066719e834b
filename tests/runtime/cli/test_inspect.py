"""`scgenept-rt inspect`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from scgenept_rt.bundle import MANIFEST_NAME, Bundle
from tests.runtime.conftest import CELLS

CommandLine = Callable[..., CompletedProcess[str]]


@pytest.fixture
def bundle(bundle_copy: Path) -> Path:
    return bundle_copy


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
    command_line: CommandLine, bundle: Path, field: str, value: str, shown_as: str
) -> None:
    path = bundle / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    for file in manifest["files"]:
        if file["path"] == "portable_fp16.onnx":
            file[field] = value
    path.write_text(json.dumps(manifest))
    shown = command_line("inspect", bundle)
    assert shown.returncode == 0, shown.stderr
    line = next(line for line in shown.stdout.splitlines() if "portable_fp16.onnx" in line)
    assert line.endswith(f"{shown_as}, for another version of scgenept-rt")
    assert command_line("verify", bundle, "--provider", "cpu").returncode == 0


@pytest.mark.parametrize("command", ["verify", "predict", "benchmark"])
@pytest.mark.parametrize("provider", ["auto", "cpu"])
def test_where_only_a_later_version_knows_the_graphs_that_is_said(
    command_line: CommandLine, bundle: Path, tmp_path: Path, command: str, provider: str
) -> None:
    path = bundle / MANIFEST_NAME
    manifest = json.loads(path.read_text())
    manifest["files"] = [file for file in manifest["files"] if file.get("target") in (None, "ort")]
    for file in manifest["files"]:
        if file.get("target") == "ort":
            file["target"] = "tomorrow"
    path.write_text(json.dumps(manifest))
    of_command = ["--out", tmp_path / "out.h5ad", "-p", "ctrl"] if command == "predict" else []
    inputs = [bundle, CELLS] if command == "predict" else [bundle]
    refused = command_line(command, *inputs, "--provider", provider, *of_command)
    assert refused.returncode == 1
    assert "knows none of its graphs (fp32 for tomorrow, fp16 for tomorrow)" in refused.stderr
    assert "Update scgenept-rt, or export the bundle again" in refused.stderr
    assert not (tmp_path / "out.h5ad").exists()
