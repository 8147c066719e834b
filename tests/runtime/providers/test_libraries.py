"""Shared libraries that do not load, on machines that are built out of real files, see conftest.py."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from scgenept_rt.providers.libraries import needed_libraries

from tests.runtime.providers.skips import linux, loads, no_driver_here

if TYPE_CHECKING:
    from tests.runtime.providers.conftest import Machine


@linux
@pytest.mark.skipif(loads("libcudnn.so.9"), reason="this machine has cuDNN where the loader finds it")
@pytest.mark.parametrize("needed", [["libcudnn.so.9"], []], ids=["needed", "opened at run time"])
def test_missing_cudnn_is_named_with_what_brings_it(machine: Machine, needed: list[str]) -> None:
    machine.add_driver((9, 0))
    machine.add_onnxruntime()
    machine.add_provider_library("cuda", needed)
    status = machine.statuses()["cuda"]
    assert status["reason"].startswith(
        "onnxruntime-gpu 1.31.1: libcudnn.so.9 does not load (libcudnn.so.9: cannot open"
    )
    assert status["remedy"] == "Run `pip install 'onnxruntime-gpu[cuda,cudnn]'`"
    assert list(status["details"]["failed_libraries"]) == ["libcudnn.so.9"]


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
    assert status["remedy"] == "On a machine with an NVIDIA GPU, run `pip install 'onnxruntime-gpu[cuda,cudnn]'`"


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
    assert status["remedy"] == "Run `pip install 'onnxruntime-gpu[cuda,cudnn]'`"


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
    assert "onnxruntime-gpu 1.31.1: libnvinfer.so.10 does not load (" in statuses["tensorrt"]["reason"]
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
