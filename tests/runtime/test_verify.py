"""`verify`, and the check that `predict` makes by itself: right bundles pass, wrong numbers are found."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from scgenept_rt.bundle import Bundle
from scgenept_rt.verification import verify_bundle

if TYPE_CHECKING:
    from tests.conftest import Oracle

VARIANT, OTHER = "scgenept_go_c_gpt_concat", "scgpt"
GRAPHS = ["ort_fp32.onnx", "ort_fp16.onnx", "merged_fp32.onnx", "portable_fp32.onnx", "portable_fp16.onnx"]


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scgenept_rt", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **environment})


def state_in_manifest(bundle: Path, name: str) -> None:
    """Make the manifest agree with a file that was changed."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    content = (bundle / name).read_bytes()
    (entry,) = (entry for entry in manifest["files"] if entry["path"] == name)
    entry.update(sha256=hashlib.sha256(content).hexdigest(), size=len(content))
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture
def swapped(oracle_bundle: Callable[[str], Path], tmp_path: Path) -> Path:
    """A bundle whose fp32 graph (and so the weights of the merged one) is another variant's; its manifest agrees."""
    bundle = tmp_path / "swapped"
    shutil.copytree(oracle_bundle(VARIANT), bundle)
    shutil.copy(oracle_bundle(OTHER) / "ort_fp32.onnx", bundle)
    state_in_manifest(bundle, "ort_fp32.onnx")
    return bundle


def test_every_graph_of_a_good_bundle_passes_on_the_cpu(oracle_bundle: Callable[[str], Path]) -> None:
    result = run("verify", oracle_bundle(VARIANT), "--provider", "cpu")
    assert (result.returncode, result.stderr) == (0, "")
    heads, figures = result.stdout.splitlines()[::2], result.stdout.splitlines()[1::2]
    assert [head.split()[3] for head in heads] == GRAPHS
    assert all(head.startswith("ok    cpu fp") and "reference.npz, 6 cells x 24 genes" in head for head in heads)
    assert ["attention: flash (tiled)" in head for head in heads] == [True, False, True, False, False]
    assert all("largest difference" in line and "of the tolerance" in line for line in figures)


def test_fresh_cells_against_pytorch(oracle_bundle: Callable[[str], Path]) -> None:
    options = ["--provider", "cpu", "--against", "torch", "--precision", "fp32", "--cells", "3", "--json"]
    result = run("verify", oracle_bundle(VARIANT), *options)
    assert result.returncode == 0, result.stderr
    figures = json.loads(result.stdout)
    assert [(each["graph"], each["against"]) for each in figures] == [
        (graph, against)
        for graph in ("ort_fp32.onnx", "merged_fp32.onnx", "portable_fp32.onnx")
        for against in ("reference.npz", "torch")
    ]
    assert figures[1]["cells"] == "3 fresh cells x 24 genes"
    assert all(each["passed"] and 0 <= each["times_tolerance"] < 1 for each in figures)


def test_the_provider_torch_verifies_itself_against_the_kept_outputs(oracle_bundle: Callable[[str], Path]) -> None:
    (verified,) = verify_bundle(Bundle.open(oracle_bundle(VARIANT)), provider="torch")
    assert (verified.graph, verified.provider) == ("eager model", "torch")
    assert verified.comparison.max_difference < 1e-5
    result = run("verify", oracle_bundle(VARIANT), "--provider", "torch", "--against", "torch")
    assert result.returncode == 1
    assert "--against torch compares another provider with PyTorch" in result.stderr


def test_without_weights_pytorch_needs_the_source_checkpoint(
    oracle: Oracle, oracle_bundle: Callable[[str], Path]
) -> None:
    bundle = Bundle.open(oracle_bundle("scgenept_ncbi_gpt"))
    with pytest.raises(ValueError, match="it keeps no weights for PyTorch"):
        list(verify_bundle(bundle, provider="cpu", against_torch=True))
    source = oracle.checkpoint("scgenept_ncbi_gpt")
    results = list(verify_bundle(bundle, provider="cpu", against_torch=True, reference_checkpoint=source))
    assert [(result.graph, result.comparison.passed) for result in results] == [
        (graph, True) for graph in ("ort_fp32.onnx", "merged_fp32.onnx") for _ in range(2)
    ]


def test_large_panels_take_one_whole_cell_and_subsets(
    oracle_bundle: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scgenept_rt.verification.MAX_WHOLE_GENES", 10)
    bundle = Bundle.open(oracle_bundle(VARIANT))
    for n_cells, words in ((4, "1 fresh cell x 24 genes and 3 fresh cells x 10 genes"), (1, "1 fresh cell x 24 genes")):
        results = list(verify_bundle(bundle, provider="cpu", precision="fp32", against_torch=True, n_cells=n_cells))
        assert results[1].cells == words
        assert results[1].comparison.passed
    one, again, other = (
        list(verify_bundle(bundle, provider="cpu", precision="fp32", against_torch=True, seed=seed))[1]
        for seed in (0, 0, 1)
    )
    assert one == again != other


def test_a_swapped_graph_is_found_by_verify(swapped: Path) -> None:
    result = run("verify", swapped, "--provider", "cpu")
    assert result.returncode == 1
    heads = result.stdout.splitlines()[::2]
    assert [head.split()[0] for head in heads] == ["MISS", "ok", "MISS", "ok", "ok"]
    alone = run("verify", swapped, "--provider", "cpu", "--precision", "fp16")
    assert alone.returncode == 0
    assert "ort_fp32" not in alone.stdout


def test_predict_refuses_a_swapped_graph_unless_told_not_to_check(
    swapped: Path, oracle: Oracle, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5ad"
    command = ["predict", swapped, oracle.h5ad, "--out", out, "-p", "ctrl", "--provider", "cpu"]
    refused = run(*command)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(
        "error: on the provider cpu (fp32) this bundle's reference cells differ from PyTorch's outputs by"
    )
    assert "Traceback" not in refused.stderr
    assert not out.exists()
    assert run(*command, "--no-check").returncode == 0
    assert out.exists()


def test_a_graph_that_gives_nan_misses(oracle_bundle: Callable[[str], Path], tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    bundle = tmp_path / "damaged"
    shutil.copytree(oracle_bundle(VARIANT), bundle)
    graph = onnx.load(bundle / "ort_fp32.onnx")
    table = max(graph.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    table.CopyFrom(onnx.numpy_helper.from_array(np.full(table.dims, np.nan, dtype=np.float32), table.name))
    onnx.save(graph, bundle / "ort_fp32.onnx")
    state_in_manifest(bundle, "ort_fp32.onnx")
    result = run("verify", bundle, "--provider", "cpu", "--precision", "fp32", "--json")
    assert result.returncode == 1
    figures = json.loads(result.stdout)
    assert (figures[0]["passed"], figures[0]["times_tolerance"]) == (False, None)
    assert [figure["passed"] for figure in figures if figure["graph"] == "portable_fp32.onnx"] == [True]


def test_switching_flash_attention_off_is_said(oracle_bundle: Callable[[str], Path]) -> None:
    bundle = oracle_bundle(VARIANT)
    result = run("verify", bundle, "--provider", "cpu", "--precision", "fp32", ORT_DISABLE_FLASH_ATTENTION="1")
    assert "attention: unfused, as ORT_DISABLE_FLASH_ATTENTION is set" in result.stdout


KERNELS = r"""
import ctypes, os
from scgenept_rt.session import cuda_attention_kernels
libc = ctypes.CDLL(None)
print("before")
with cuda_attention_kernels() as kernels:
    assert os.environ["ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO"] == "1"
    for layer in range(12):
        line = f"Operator=MultiHeadAttention Node=node_{layer} DataType=fp16 SdpaKernel=CUDNN_FLASH_ATTENTION"
        libc.puts(f"\x1b[36m{line}\x1b[0m".encode())
    libc.puts(b"something else")
    libc.fflush(None)
    print("from Python")
assert "ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO" not in os.environ
print(kernels)
try:
    with cuda_attention_kernels() as none:
        raise KeyError("kept")
except KeyError:
    print(none, "after")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="writes through libc")
def test_kernel_names_are_read_from_what_the_library_prints() -> None:
    result = subprocess.run([sys.executable, "-c", KERNELS], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "before", "something else", "from Python", "['CUDNN_FLASH_ATTENTION']", "[] after"
    ]  # fmt: skip


def test_verify_of_a_bundle_without_graphs_for_the_provider_says_how_to_export(
    oracle_bundle: Callable[[str], Path],
) -> None:
    result: Any = run("verify", oracle_bundle("scgenept_ncbi_gpt"), "--provider", "cpu", "--precision", "fp16")
    assert result.returncode == 1
    assert "holds no fp16 graph" in result.stderr
    assert "scgenept-export bundle ... --precision fp16" in result.stderr
