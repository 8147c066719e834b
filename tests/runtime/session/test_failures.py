from __future__ import annotations

import pytest

from scgenept_rt.errors import DeviceMemoryError, InferenceError
from scgenept_rt.session.failures import inference_error, summary

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
    assert "the provider cuda ran out of memory on a batch of 32 cells x 5,045 genes" in str(error)


def test_other_failures_keep_what_cuda_said() -> None:
    error = inference_error("cuda", 1, 1, RuntimeError(CUDA_FAILURE))
    assert type(error) is InferenceError
    assert error.problem == (
        "the provider cuda failed on a batch of 1 cell x 1 gene: "
        "CUDA failure 46: CUDA-capable device(s) is/are busy or unavailable"
    )


def test_long_messages_are_shortened_to_their_first_line() -> None:
    assert summary("first\nsecond") == "first"
    assert summary("") == "no reason given"
    assert len(summary("x" * 1000)) == 300
