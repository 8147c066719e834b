"""TensorRT-RTX engines, built for real: no GPU is needed for that."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch

from scgenept_export import bundle_export
from scgenept_export.errors import EngineBuildError
from scgenept_export.graph_check import GraphCheck
from scgenept_export.onnx_graph import write_graph
from scgenept_export.synthetic import synthetic_state_dict
from scgenept_export.tensorrt_rtx import COMPUTE_CAPABILITIES, build_engines
from scgenept_rt.bundle import Bundle
from scgenept_rt.errors import ArgumentError, GraphNotInBundleError, MissingPackageError, OutputExistsError

VARIANT = "scgenept_go_c_gpt_concat"
needs_tensorrt_rtx = pytest.mark.skipif(
    sys.platform == "darwin" or platform.machine() not in ("x86_64", "AMD64"),
    reason="NVIDIA publishes wheels for Linux and Windows on x86-64 alone",
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with heads of 64, the width that TensorRT-RTX has kernels for and published models have."""
    directory = tmp_path_factory.mktemp("heads_of_64")
    sizes = {"n_tokens": 12, "d_model": 128, "n_layers": 2, "n_heads": 2, "d_ff": 32, "d_text": 10}
    torch.save(synthetic_state_dict(VARIANT, **sizes), directory / "model.pt")
    names = ["A1", "B2", "C3", "D4", "E5", "F6", "G7", "H8", "I9"]
    (directory / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(names)}))
    (directory / "genes.txt").write_text("\n".join(names))
    with pytest.MonkeyPatch.context() as patch:  # no test runs the other graph
        patch.setattr(
            bundle_export, "write_graph", lambda *args: write_graph(*args) if args[4] == "portable" else args[2].touch()
        )
        patch.setattr(GraphCheck, "misses", lambda *_: [])
        made = bundle_export.export_bundle(
            directory / "model.pt",
            directory / "genes.txt",
            VARIANT,
            directory / "bundle",
            vocab=directory / "vocab.json",
            n_heads=2,
            precisions=("fp16",),
            portable=True,
            synthetic=True,
        )
    return made.directory


@needs_tensorrt_rtx
def test_engines_are_built_of_every_node(
    bundle: Path, export_cli: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    result = export_cli("tensorrt-rtx", copy, "--compute-capability", "sm89", "--compute-capability", "sm120")
    assert result.returncode == 0, result.stderr
    n_nodes = len(onnx.load(bundle / "portable_fp16.onnx").graph.node)
    opened = Bundle.open(bundle)
    for name, line in zip(("sm89", "sm120"), result.stdout.splitlines(), strict=True):
        engine = tmp_path / "copy-tensorrt-rtx" / f"{VARIANT}_fp16_{name}.engine"
        assert line.startswith(f"wrote {engine}: ")
        assert line.endswith("up to 32 cells x 9 genes")
        facts = json.loads(engine.with_suffix(".json").read_text())
        assert facts["sha256"] == hashlib.sha256(engine.read_bytes()).hexdigest()
        assert facts["size"] == engine.stat().st_size > 100_000
        assert facts["bundle_digest"] == opened.digest
        assert facts["graph"]["sha256"] == opened.graph("fp16", "portable").sha256
        assert facts["n_nodes"] == n_nodes <= facts["n_layers"]
        assert facts["shapes"]["values"] == {"min": [1, 1], "opt": [32, 9], "max": [32, 9]}
        assert facts["versions"]["tensorrt-rtx"].startswith("1.")
    assert sorted(path.suffix for path in engine.parent.iterdir()) == [".engine", ".engine", ".json", ".json"]


@needs_tensorrt_rtx
def test_an_engine_is_replaced_only_when_told(bundle: Path, tmp_path: Path) -> None:
    opened = Bundle.open(bundle)
    (first,) = build_engines(opened, ["sm86"], tmp_path, max_batch=2)
    with pytest.raises(OutputExistsError, match=r"overwrite=True to replace it"):
        build_engines(opened, ["sm86"], tmp_path)
    (second,) = build_engines(opened, ["sm86"], tmp_path, max_batch=4, overwrite=True)
    assert first == second
    assert json.loads(second.with_suffix(".json").read_text())["shapes"]["values"]["max"] == [4, 9]


@needs_tensorrt_rtx
def test_what_it_cannot_build_is_said_in_words(
    bundle: Path, oracle_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(EngineBuildError, match="not supported by a dedicated kernel"):
        build_engines(Bundle.open(oracle_bundle(VARIANT)), ["sm89"], tmp_path)  # heads of 8
    with pytest.raises(EngineBuildError, match="FP32 GEMM is not supported"):
        build_engines(Bundle.open(oracle_bundle(VARIANT)), ["sm75"], tmp_path, precision="fp32")
    assert list(tmp_path.iterdir()) == []
    # ONNX Runtime's own operators in the place of the portable graph: not one node may be left out.
    foreign = tmp_path / "foreign"
    shutil.copytree(bundle, foreign)
    shutil.copy(oracle_bundle(VARIANT) / "ort_fp16.onnx", foreign / "portable_fp16.onnx")
    with pytest.raises(EngineBuildError, match=r"cannot read every node of portable_fp16\.onnx: .*SkipLayer"):
        build_engines(Bundle.open(foreign, check_files=False), ["sm89"], tmp_path / "out")


def test_bundles_without_a_portable_graph_say_how_to_export(tmp_path: Path) -> None:
    with pytest.raises(GraphNotInBundleError, match="precision fp16 and portable graphs"):
        build_engines(Bundle.open("demo"), ["sm89"], tmp_path)


def test_every_compute_capability_is_one_of_the_library() -> None:
    trt = pytest.importorskip("tensorrt_rtx_bindings")
    assert {name.lower() for name in trt.ComputeCapability.__members__} - {"none", "current"} == {*COMPUTE_CAPABILITIES}


def test_what_is_missing_or_unknown_is_named(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ArgumentError, match=r"expected one of sm75, .* use the provider cuda"):
        build_engines(Bundle.open(bundle), ["sm89", "sm90"], tmp_path)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx_bindings", None)
    with pytest.raises(MissingPackageError, match=r"building engines needs TensorRT-RTX.*tensorrt-rtx-build"):
        build_engines(Bundle.open(bundle), ["sm89"], tmp_path)
