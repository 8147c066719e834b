from __future__ import annotations

import pytest

from scgenept_rt.errors import DeviceMemoryError, InferenceError
from scgenept_rt.session import inference_error

# As ONNX Runtime 1.31.1 words it.
CUDA_FAILURE = (
    "/onnxruntime_src/onnxruntime/core/providers/cuda/cuda_call.cc:131 std::conditional_t<THRW, void, common::Status> "
    "onnxruntime::CudaCall(ERRTYPE, const char*, const char*, SUCCTYPE, const char*, const char*, int) [with ERRTYPE = "
    "cudaError; bool THRW = true; SUCCTYPE = cudaError; std::conditional_t<THRW, void, common::Status> = void] "
    "CUDA failure 46: CUDA-capable device(s) is/are busy or unavailable ; GPU=0 ; hostname=node12 ; "
    "expr=cudaSetDevice(info_.device_id); "
)


@pytest.mark.parametrize(
    "message",
    [
        "Failed to allocate memory for requested buffer of size 9",
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "std::bad_alloc",
        "CUBLAS failure 3: the resource allocation failed ; GPU=0 ; hostname=node12",
    ],
)
def test_running_out_of_memory_is_an_error_of_its_own(message: str) -> None:
    error = inference_error("cuda", 32, 5045, RuntimeError(message))
    assert isinstance(error, DeviceMemoryError)
    assert isinstance(error, MemoryError)


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (CUDA_FAILURE, "CUDA failure 46: CUDA-capable device(s) is/are busy or unavailable"),
        ("first\nsecond", "first"),
        ("", "no reason given"),
        ("x" * 1000, "x" * 297 + "..."),
    ],
)
def test_other_failures_keep_the_cause_in_one_line(message: str, cause: str) -> None:
    error = inference_error("cuda", 1, 1, RuntimeError(message))
    assert type(error) is InferenceError
    assert error.problem == f"the provider cuda failed on a batch of 1 cell x 1 gene: {cause}"
