"""What is said where CUDA cannot be used, or a call of it fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cuda.conftest import Run

COMPATIBILITY_NOT_SUPPORTED = 804  # CUresult


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (
            {"STANDIN_DRIVER_CUDA": "12080"},
            ["driver is too old", "12.8", "CUDA 13", "onnxruntime-gpu[cuda,cudnn]<1.27"],
        ),
        ({"STANDIN_DRIVER_CUDA": "11080"}, ["driver is too old", "11.8", "Update the NVIDIA driver to 580"]),
        ({"STANDIN_GPUS": "0"}, ["the NVIDIA driver finds no GPU", "nvidia-smi"]),
        ({"STANDIN_FAIL": f"cuInit={COMPATIBILITY_NOT_SUPPORTED}"}, ["does not support this GPU", "cuda-compat"]),
        (
            {"STANDIN_CAPABILITY": "70"},
            ["no kernels for Stand-in GPU (compute capability 7.0)", "onnxruntime-gpu[cuda,cudnn]<1.27"],
        ),
        (
            {"STANDIN_CAPABILITY": "100"},
            ["no kernels for Stand-in GPU (compute capability 10.0)", "onnxruntime-gpu[cuda,cudnn]==1.28"],
        ),
    ],
)
def test_a_machine_that_cannot_run_it(
    run: Callable[..., Run], bundle: Path, settings: dict[str, str], expected: list[str]
) -> None:
    done = run("verify", bundle, "--provider", "cuda", **settings)
    assert done.code == 1
    assert "Traceback" not in done.stderr
    for text in expected:
        assert text in done.stderr
    assert not done.calls("launch")


@pytest.mark.parametrize("call", ["cudaSetDevice", "cudaMemGetInfo"])
def test_an_error_of_loading_keeps_what_cuda_said(run: Callable[..., Run], bundle: Path, call: str) -> None:
    done = run("verify", bundle, "--provider", "cuda", STANDIN_FAIL=f"{call}=46")
    assert done.code == 1
    assert "CUDA failure 46: CUDA-capable device(s) is/are busy or unavailable" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("failing", "expected"),
    [
        ("cublasCreate_v2=3", "CUBLAS failure 3: the resource allocation failed"),
        ("cublasGemmEx=13", "CUBLAS failure 13: the function failed to launch on the GPU"),
        ("cudaLaunchKernel=209", "no kernel image is available for execution on the device"),
        ("cudaStreamSynchronize=700", "CUDA failure 700: an illegal memory access was encountered"),
        ("cudnnBackendExecute=5000", "CUDNN_FE failure 11: CUDNN_BACKEND_API_FAILED"),
    ],
)
def test_the_cause_of_a_failure_is_reported_once(
    run: Callable[..., Run], bundle: Path, failing: str, expected: str
) -> None:
    done = run("verify", bundle, "--provider", "cuda", "--precision", "fp16", STANDIN_FAIL=failing)
    assert done.code == 1
    assert done.stderr.count(expected) == 1
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_gpu_without_memory_for_one_cell(run: Callable[..., Run], bundle: Path) -> None:
    done = run("verify", bundle, "--provider", "cuda", "--precision", "fp16", STANDIN_MEMORY="1000")
    assert done.code == 1
    assert done.stderr.startswith("error: ")
    assert "Free memory, or use another device" in done.stderr
