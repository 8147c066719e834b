"""TensorRT-RTX engines, built for real: no GPU is needed for that."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch

import scgenept_export
import scgenept_rt
from scgenept_export.bundle_export import export_bundle
from scgenept_export.errors import EngineBuildError
from scgenept_export.synthetic import synthetic_state_dict
from scgenept_export.tensorrt_rtx import COMPUTE_CAPABILITIES, build_engines, parse_compute_capability
from scgenept_rt.bundle import Bundle
from scgenept_rt.errors import ArgumentError, GraphNotInBundleError, OutputError, OutputExistsError

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
    made = export_bundle(
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
    result = export_cli("tensorrt-rtx", copy, "--compute-capability", "sm89", "--compute-capability", "12.0")
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
    (second,) = build_engines(opened, ["sm86", "8.6"], tmp_path, max_batch=4, overwrite=True)
    assert first == second
    assert json.loads(second.with_suffix(".json").read_text())["shapes"]["values"]["max"] == [4, 9]


@needs_tensorrt_rtx
def test_what_it_cannot_build_is_said_in_words(
    bundle: Path, oracle_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(EngineBuildError, match="no attention kernel for this precision and head width"):
        build_engines(Bundle.open(oracle_bundle(VARIANT)), ["sm89"], tmp_path)  # heads of 8
    with pytest.raises(EngineBuildError, match=r"no fp32 matrix products for this GPU\. Use fp16"):
        build_engines(Bundle.open(oracle_bundle(VARIANT)), ["sm75"], tmp_path, precision="fp32")
    assert list(tmp_path.iterdir()) == []
    # ONNX Runtime's own operators in the place of the portable graph: not one node may be left out.
    foreign = tmp_path / "foreign"
    shutil.copytree(bundle, foreign)
    shutil.copy(foreign / "ort_fp16.onnx", foreign / "portable_fp16.onnx")
    with pytest.raises(EngineBuildError, match=r"cannot read every node of portable_fp16\.onnx: .*SkipLayer"):
        build_engines(Bundle.open(foreign, check_files=False), ["sm89"], tmp_path / "out")


def test_bundles_without_a_portable_graph_say_how_to_export(
    oracle_bundle: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(GraphNotInBundleError, match="precision fp16 and portable graphs"):
        build_engines(Bundle.open(oracle_bundle("scgenept_ncbi_gpt")), ["sm89"], tmp_path)


@pytest.mark.parametrize("text", ["sm89", "SM89", "8.9", "89", " sm_89 "])
def test_spellings_of_a_compute_capability(text: str) -> None:
    assert parse_compute_capability(text) == "sm89"


def test_every_compute_capability_is_one_of_the_library() -> None:
    trt = pytest.importorskip("tensorrt_rtx_bindings")
    assert {name.lower() for name in trt.ComputeCapability.__members__} - {"none", "current"} == {*COMPUTE_CAPABILITIES}


@pytest.mark.parametrize("text", ["sm90", "9.0", "sm100"])
def test_data_centre_gpus_are_sent_to_cuda(text: str) -> None:
    with pytest.raises(ArgumentError, match=r"data-centre GPUs .*provider cuda"):
        parse_compute_capability(text)


@pytest.mark.parametrize("text", ["", "rtx4090", "sm88", "-1"])
def test_unknown_compute_capabilities(text: str) -> None:
    with pytest.raises(ArgumentError, match="expected one of sm75, "):
        parse_compute_capability(text)


def test_a_directory_that_cannot_be_made(bundle: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx_bindings")
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/engines: it cannot be made \(Not a directory"):
        build_engines(Bundle.open(bundle), ["sm89"], tmp_path / "file" / "engines")


@pytest.mark.parametrize(
    ("left", "words"),
    [
        ((), "building engines needs TensorRT-RTX, which is not installed"),
        (("tensorrt_rtx_bindings",), "TensorRT-RTX is installed but does not load: libtensorrt_rtx"),
    ],
)
@needs_tensorrt_rtx
def test_missing_packages_are_named(left: tuple[str, ...], words: str, bundle: Path, tmp_path: Path) -> None:
    """In a process whose packages are the real ones but for TensorRT-RTX, or its libraries."""
    site = tmp_path / "site"
    site.mkdir()
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith("tensorrt") or entry.name in left:
            (site / entry.name).symlink_to(entry)
    sources = [str(Path(package.__path__[0]).parent) for package in (scgenept_rt, scgenept_export)]
    arguments = ["tensorrt-rtx", str(bundle), "--compute-capability", "sm89", "--out", "x"]
    code = (
        f"import sys; sys.path[:0] = {sources}; sys.path.append({str(site)!r})\n"
        f"sys.argv = ['scgenept-export', *{arguments}]\n"
        "from scgenept_export.cli import main; main()"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert result.returncode == 1
    assert result.stderr.startswith(f"error: {words}"), result.stderr
    assert "[tensorrt-rtx-build]" in result.stderr
