"""`verify`, and the check that `predict` makes by itself: right bundles pass, wrong numbers are found."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.commands import CommandLine
from tests.runtime.bundle_changes import change_weight
from tests.runtime.conftest import CELLS

GRAPHS = ["ort_fp32.onnx", "ort_fp16.onnx", "merged_fp32.onnx", "portable_fp32.onnx", "portable_fp16.onnx"]


@pytest.fixture
def swapped(bundle_copy: Path) -> Path:
    """A bundle whose fp32 graph (and so the weights of the merged one) is another network's; its manifest agrees."""
    change_weight(bundle_copy / "ort_fp32.onnx", "gene_table", np.negative)
    return bundle_copy


def test_every_graph_of_a_good_bundle_passes_on_the_cpu(command_line: CommandLine, bundle: Path) -> None:
    result = command_line("verify", bundle, "--provider", "cpu")
    assert (result.returncode, result.stderr) == (0, "")
    heads, figures = result.stdout.splitlines()[::2], result.stdout.splitlines()[1::2]
    assert [head.split()[3] for head in heads] == GRAPHS
    assert all(head.startswith("ok    cpu fp") and "reference.npz, 6 cells x 24 genes" in head for head in heads)
    assert all("largest difference" in line and "of the tolerance" in line for line in figures)


def test_a_swapped_graph_is_found_by_verify(command_line: CommandLine, swapped: Path) -> None:
    result = command_line("verify", swapped, "--provider", "cpu")
    assert result.returncode == 1
    heads = result.stdout.splitlines()[::2]
    assert [head.split()[0] for head in heads] == ["MISS", "ok", "MISS", "ok", "ok"]
    alone = command_line("verify", swapped, "--provider", "cpu", "--precision", "fp16")
    assert alone.returncode == 0
    assert "ort_fp32" not in alone.stdout


def test_predict_refuses_a_swapped_graph_unless_told_not_to_check(
    command_line: CommandLine, swapped: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.h5ad"
    command = ["predict", swapped, CELLS, "--out", out, "-p", "ctrl", "--provider", "cpu"]
    refused = command_line(*command)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith(
        "error: on the provider cpu (fp32) this bundle's reference cells differ from PyTorch's outputs by"
    )
    assert "Traceback" not in refused.stderr
    assert not out.exists()
    assert command_line(*command, "--no-check").returncode == 0
    assert out.exists()


def test_a_graph_that_gives_nan_misses(command_line: CommandLine, bundle_copy: Path) -> None:
    change_weight(bundle_copy / "ort_fp32.onnx", "gene_table", lambda values: np.full_like(values, np.nan))
    result = command_line("verify", bundle_copy, "--provider", "cpu", "--precision", "fp32", "--json")
    assert result.returncode == 1
    figures = json.loads(result.stdout)
    assert (figures[0]["passed"], figures[0]["times_tolerance"]) == (False, None)
    assert [figure["passed"] for figure in figures if figure["graph"] == "portable_fp32.onnx"] == [True]


KERNELS = r"""
import ctypes, os
from scgenept_rt.session.attention_kernel import attention_kernels
libc = ctypes.CDLL(None)
print("before")
with attention_kernels(printed=True) as kernels:
    assert os.environ["ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO"] == "1"
    for layer in range(12):
        line = f"Operator=MultiHeadAttention Node=node_{layer} DataType=fp16 SdpaKernel=CUDNN_FLASH_ATTENTION"
        libc.puts(f"\x1b[36mAttentionKernelOptions: FLASH_ATTENTION=1 MATH=1\x1b[0m".encode())
        libc.puts(f"\x1b[36m{line}\x1b[0m".encode())
    libc.puts(b"something else")
    libc.fflush(None)
    print("from Python")
assert "ORT_ENABLE_ATTENTION_KERNEL_DEBUG_INFO" not in os.environ
print(kernels)
try:
    with attention_kernels(printed=True) as none:
        raise KeyError("kept")
except KeyError:
    print(none, "after")
"""


def test_kernel_names_are_read_from_what_the_library_prints() -> None:
    result = subprocess.run([sys.executable, "-c", KERNELS], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == ["before", "['CUDNN_FLASH_ATTENTION']", "[] after"]
    assert result.stderr.splitlines() == ["something else", "from Python"]
