"""Shared libraries that do not load, on machines that are built out of real files, see conftest.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scgenept_rt.providers.elf import needed_libraries
from scgenept_rt.providers.libraries import wheel_of
from tests.runtime.providers.skips import linux, loads, no_driver_here

if TYPE_CHECKING:
    from tests.runtime.providers.conftest import Machine


@linux
@pytest.mark.skipif(loads("libcudnn.so.9"), reason="this machine has cuDNN where the loader finds it")
@pytest.mark.parametrize(("cuda", "wheel"), [("13.0", "nvidia-cudnn-cu13"), ("12.8", "nvidia-cudnn-cu12")])
def test_missing_cudnn_is_named_with_its_wheel(machine: Machine, cuda: str, wheel: str) -> None:
    machine.add_driver((9, 0))
    machine.add_onnxruntime(cuda=cuda)
    machine.add_provider_library("cuda", ["libcudnn.so.9"])
    status = machine.statuses()["cuda"]
    assert status["reason"] == "onnxruntime-gpu 1.31.1: libcudnn.so.9 does not load"
    assert status["remedy"] == f"Run `pip install {wheel}`"
    assert status["details"]["failed_libraries"][0]["message"].startswith("libcudnn.so.9: cannot open shared object")


@linux
@pytest.mark.skipif(loads("libcudnn.so.9"), reason="this machine has cuDNN where the loader finds it")
def test_cudnn_that_is_opened_at_run_time_is_missed_too(machine: Machine) -> None:
    machine.add_driver((9, 0))
    machine.add_onnxruntime()
    machine.add_provider_library("cuda", [])
    assert "libcudnn.so.9 does not load" in machine.statuses()["cuda"]["reason"]


@linux
@no_driver_here()
@pytest.mark.skipif(loads("libcublas.so.99"), reason="this machine comes from the future")
def test_all_missing_libraries_are_named_at_once(machine: Machine) -> None:
    machine.add_onnxruntime()
    machine.add_provider_library("cuda", ["libcublas.so.99", "libcublasLt.so.99", "libcurand.so.99", "libcudnn.so.9"])
    machine.add_library("libcudnn.so.9")
    status = machine.statuses()["cuda"]
    assert "libcublas.so.99, libcublasLt.so.99, libcurand.so.99 do not load" in status["reason"]
    assert "no NVIDIA driver" in status["reason"]
    assert status["remedy"] == "On a machine with an NVIDIA GPU, run `pip install nvidia-cublas nvidia-curand`"


@linux
def test_libraries_of_the_nvidia_wheels_are_preloaded(machine: Machine) -> None:
    machine.add_driver((9, 0))
    machine.add_onnxruntime()
    machine.add_provider_library("cuda", ["libcudnn.so.9"])
    directory = machine.site / "nvidia" / "cudnn" / "lib"
    directory.mkdir(parents=True)
    machine.compile(directory / "libcudnn.so.9", "void stub(void) {}")
    status = machine.statuses()["cuda"]
    assert status["usable"], status
    assert status["reason"] == "onnxruntime-gpu 1.31.1 (CUDA 13), Test GPU 0 (compute capability 9.0)"


@linux
def test_broken_library_is_told_in_the_loaders_words(gpu_machine: Machine) -> None:
    (gpu_machine.libraries / "libcudnn.so.9").write_bytes(b"\x7fELF")
    status = gpu_machine.statuses()["cuda"]
    assert "libcudnn.so.9 does not load" in status["reason"]
    assert "file too short" in status["reason"]
    assert status["remedy"] == "Run `pip install nvidia-cudnn-cu13`"


@linux
@pytest.mark.parametrize("content", [None, b"not a library"])
def test_missing_or_broken_provider_library(gpu_machine: Machine, content: bytes | None) -> None:
    library = gpu_machine.site / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
    library.unlink()
    if content is not None:
        library.write_bytes(content)
    status = gpu_machine.statuses()["cuda"]
    assert "libonnxruntime_providers_cuda.so does not load" in status["reason"]
    assert status["remedy"] == "Run `pip install --force-reinstall --no-deps onnxruntime-gpu`"


@linux
@pytest.mark.skipif(loads("libnvinfer.so.10"), reason="this machine has TensorRT")
def test_missing_tensorrt_is_said_to_come_from_nvidia_alone(gpu_machine: Machine) -> None:
    statuses = gpu_machine.statuses()
    assert statuses["cuda"]["usable"]
    assert statuses["tensorrt"]["reason"] == "onnxruntime-gpu 1.31.1: libnvinfer.so.10 does not load"
    assert "NVIDIA's own package index" in statuses["tensorrt"]["remedy"]
    assert "provider cuda" in statuses["tensorrt"]["remedy"]


@linux
def test_tensorrt_of_its_wheel_is_found(gpu_machine: Machine) -> None:
    directory = gpu_machine.site / "tensorrt_libs"
    directory.mkdir()
    gpu_machine.compile(directory / "libnvinfer.so.10", "void stub(void) {}")
    assert gpu_machine.statuses()["tensorrt"]["usable"]


@linux
def test_needed_libraries_of_the_installed_onnxruntime() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    library = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_shared.so"
    assert "libc.so.6" in needed_libraries(library)
    with pytest.raises(ValueError, match="not a shared library"):
        needed_libraries(Path(onnxruntime.__file__))


@pytest.mark.parametrize(
    ("library", "cuda_major", "wheel"),
    [
        ("libcudart.so.13", 13, "nvidia-cuda-runtime"),
        ("libcublasLt.so.12", 12, "nvidia-cublas-cu12"),
        ("libcufft.so.12", 13, "nvidia-cufft"),
        ("libcudnn_adv.so.9", 13, "nvidia-cudnn-cu13"),
        ("libstdc++.so.6", 13, None),
    ],
)
def test_wheel_that_brings_a_library(library: str, cuda_major: int, wheel: str | None) -> None:
    assert wheel_of(library, cuda_major) == wheel
