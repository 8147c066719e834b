"""What is said of each provider, on machines that are built out of real files, see conftest.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scgenept_rt.errors import ProviderUnavailableError
from scgenept_rt.providers import diagnose_provider, select_provider, verify_active
from scgenept_rt.providers.libraries import load_failures
from tests.runtime.providers.conftest import Machine


def test_the_installed_onnxruntime_is_usable_on_the_cpu() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    status = diagnose_provider("cpu")
    assert status.usable
    assert onnxruntime.__version__ in status.reason
    choice = select_provider(provider="cpu")
    assert (choice.ort_provider, choice.ort_options) == ("CPUExecutionProvider", {})
    verify_active(["CPUExecutionProvider"], choice)
    with pytest.raises(ProviderUnavailableError):
        verify_active([], choice)


def test_command_prints_a_line_a_provider_and_json(machine: Machine) -> None:
    machine.add_onnxruntime("onnxruntime", "1.32.0", gpu=False)
    code = "from scgenept_rt.cli import main; main()"
    table = machine.run(code, "providers")
    assert (table.returncode, table.stderr) == (0, "")
    lines = table.stdout.splitlines()
    rows = [line.split()[:2] for line in lines if not line.startswith(" ")]
    assert rows == [["cpu", "yes"], ["cuda", "no"], ["tensorrt", "no"], ["tensorrt-rtx", "no"], ["torch", "no"]]
    assert "pip install 'scgenept-rt[gpu]'" in lines[2]
    as_json = machine.run(code, "providers", "--json")
    assert as_json.returncode == 0
    assert list(json.loads(as_json.stdout)[0]) == ["name", "usable", "reason", "remedy", "details"]


# --- ONNX Runtime and PyTorch -----------------------------------------------------------------------------------------


def test_without_onnxruntime_every_line_says_how_to_install_it(machine: Machine) -> None:
    statuses = machine.statuses()
    assert not any(status["usable"] for status in statuses.values())
    assert statuses["cpu"]["reason"] == "onnxruntime is not installed"
    assert statuses["cpu"]["remedy"] == "Run `pip install 'scgenept-rt[cpu]'`"
    assert statuses["cuda"]["remedy"].endswith("pip install 'scgenept-rt[gpu]'`")
    assert statuses["tensorrt-rtx"]["remedy"].endswith("pip install 'scgenept-rt[tensorrt-rtx]'`")
    assert statuses["torch"]["reason"].startswith("PyTorch is not installed")


def test_cpu_wheel_without_and_with_a_gpu(machine: Machine) -> None:
    machine.lacks("libcuda.so.1")
    machine.add_onnxruntime("onnxruntime", "1.32.0", gpu=False)
    statuses = machine.statuses()
    assert statuses["cpu"]["usable"]
    problem = "the CPU wheel onnxruntime 1.32.0 has no provider cuda"
    assert statuses["cuda"]["reason"] == f"{problem}; no NVIDIA driver is installed (libcuda.so.1 does not load)"
    assert statuses["cuda"]["remedy"] == (
        "On a machine with an NVIDIA GPU, run `pip uninstall -y onnxruntime && pip install 'scgenept-rt[gpu]'`"
    )
    machine.add_driver((9, 0))
    cuda = machine.statuses()["cuda"]
    assert cuda["reason"] == problem
    assert cuda["remedy"] == "Run `pip uninstall -y onnxruntime && pip install 'scgenept-rt[gpu]'`"
    assert cuda["details"]["devices"][0]["name"] == "Test GPU 0"


def test_both_wheels_are_said_to_overwrite_each_other(gpu_machine: Machine) -> None:
    gpu_machine.add_wheel("onnxruntime", "1.32.0")
    statuses = gpu_machine.statuses()
    both = "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are installed together and overwrite each other's files"
    assert statuses["cuda"]["reason"] == both
    assert statuses["cpu"]["usable"]
    assert both in statuses["cpu"]["reason"]
    for name, extra in (("cuda", "gpu"), ("cpu", "cpu")):
        repair = f"Run `pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'scgenept-rt[{extra}]'`"
        assert statuses[name]["remedy"] == repair


def test_files_gone_after_one_of_two_wheels_was_uninstalled(machine: Machine) -> None:
    machine.add_wheel("onnxruntime-gpu", "1.31.1")
    (machine.site / "onnxruntime" / "capi").mkdir(parents=True)
    cpu = machine.statuses()["cpu"]
    assert cpu["reason"] == "onnxruntime-gpu 1.31.1 is recorded as installed, but its files are gone"
    assert cpu["remedy"] == "Run `pip uninstall -y onnxruntime-gpu && pip install 'scgenept-rt[cpu]'`"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("raise ImportError('libz.so.1: cannot open')", "does not import (libz.so.1: cannot open)"),
        ("", "is incomplete"),
    ],
)
def test_onnxruntime_that_does_not_import(machine: Machine, content: str, problem: str) -> None:
    capi = machine.add_onnxruntime("onnxruntime", "1.32.0", gpu=False)
    (capi.parent / "__init__.py").write_text(content)
    assert f"onnxruntime 1.32.0 {problem}" in machine.statuses()["cpu"]["reason"]


def test_torch_is_looked_for_but_not_imported(machine: Machine) -> None:
    machine.add_wheel("torch", "2.13.0")
    (machine.site / "torch.py").write_text("raise SystemExit('imported')")
    status = machine.statuses()["torch"]
    assert status["usable"]
    assert "PyTorch 2.13.0" in status["reason"]


# --- drivers and GPUs -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "reason", "remedy"),
    [
        ({"init": 100}, "the NVIDIA driver finds no GPU", "nvidia-smi"),
        ({"init": 802}, "fabric manager", "nvidia-fabricmanager"),
        ({"init": 803}, "differ in version", "Restart"),
        ({"init": 999}, "CUDA error 999", "nvidia-smi"),
    ],
)
def test_driver_without_a_gpu(gpu_machine: Machine, driver: dict[str, int], reason: str, remedy: str) -> None:
    gpu_machine.add_driver(**driver)
    status = gpu_machine.statuses()["cuda"]
    assert reason in status["reason"]
    assert remedy in status["remedy"]


def test_hidden_gpus(gpu_machine: Machine) -> None:
    status = gpu_machine.statuses(CUDA_VISIBLE_DEVICES="")["cuda"]
    assert "CUDA_VISIBLE_DEVICES is '', which hides every GPU" in status["reason"]
    assert status["remedy"].startswith("Unset CUDA_VISIBLE_DEVICES")


def test_tensorrt_rtx_on_a_gpu_that_it_does_not_support(gpu_machine: Machine) -> None:
    gpu_machine.add_driver((9, 0))
    gpu_machine.add_plugin()
    status = gpu_machine.statuses()["tensorrt-rtx"]
    assert "TensorRT-RTX does not support Test GPU 0 (compute capability 9.0)" in status["reason"]
    assert status["remedy"] == "Use the provider cuda"


# --- libraries --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("needed", [["libcudnn.so.9"], []], ids=["needed", "opened at run time"])
def test_missing_cudnn_is_named_with_what_brings_it(machine: Machine, needed: list[str]) -> None:
    machine.lacks("libcudnn.so.9")
    machine.add_driver((9, 0))
    machine.add_onnxruntime()
    machine.add_provider_library("cuda", needed)
    status = machine.statuses()["cuda"]
    assert status["reason"].startswith(
        "onnxruntime-gpu 1.31.1: libcudnn.so.9 does not load (libcudnn.so.9: cannot open"
    )
    assert status["remedy"] == "Run `pip install 'onnxruntime-gpu[cuda,cudnn]'`"
    assert list(status["details"]["failed_libraries"]) == ["libcudnn.so.9"]


def test_all_missing_libraries_are_named_at_once(machine: Machine) -> None:
    machine.lacks("libcuda.so.1")
    machine.add_onnxruntime()
    machine.add_provider_library("cuda", ["libcublas.so.99", "libcurand.so.99", "libcudnn.so.9"])
    machine.add_library("libcudnn.so.9")
    status = machine.statuses()["cuda"]
    assert "libcublas.so.99, libcurand.so.99 do not load" in status["reason"]
    assert "no NVIDIA driver" in status["reason"]
    assert status["remedy"] == "On a machine with an NVIDIA GPU, run `pip install 'onnxruntime-gpu[cuda,cudnn]'`"


def test_a_library_of_the_system_is_not_said_to_come_with_cuda(gpu_machine: Machine) -> None:
    gpu_machine.add_provider_library("cuda", ["libcublas.so.13", "libstdc++.so.99"])
    status = gpu_machine.statuses()["cuda"]
    assert status["remedy"] == "Install the package of the operating system that has libstdc++.so.99"


def test_libraries_of_the_nvidia_wheels_are_preloaded(machine: Machine) -> None:
    machine.add_driver((9, 0))
    machine.add_onnxruntime()
    machine.add_provider_library("cuda", ["libcudnn.so.9"])
    machine.add_library("libcudnn.so.9", machine.site / "nvidia" / "cudnn" / "lib")
    status = machine.statuses()["cuda"]
    assert status["usable"], status
    assert status["reason"] == "onnxruntime-gpu 1.31.1 (CUDA 13), Test GPU 0 (compute capability 9.0)"


def test_broken_library_is_told_in_the_loaders_words(gpu_machine: Machine) -> None:
    (gpu_machine.libraries / "libcudnn.so.9").write_bytes(b"\x7fELF")
    assert "libcudnn.so.9 does not load (" in (reason := gpu_machine.statuses()["cuda"]["reason"])
    assert "file too short" in reason


@pytest.mark.parametrize("content", [None, b"not a library"])
def test_missing_or_broken_provider_library(gpu_machine: Machine, content: bytes | None) -> None:
    library = gpu_machine.site / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
    library.unlink()
    if content is not None:
        library.write_bytes(content)
    status = gpu_machine.statuses()["cuda"]
    assert "libonnxruntime_providers_cuda.so does not load" in status["reason"]
    assert status["remedy"] == "Run `pip install --force-reinstall --no-deps onnxruntime-gpu`"


def test_tensorrt_is_said_to_come_from_nvidia_alone_and_found_in_its_wheel(gpu_machine: Machine) -> None:
    gpu_machine.lacks("libnvinfer.so.10")
    statuses = gpu_machine.statuses()
    assert statuses["cuda"]["usable"]
    assert "onnxruntime-gpu 1.31.1: libnvinfer.so.10 does not load (" in statuses["tensorrt"]["reason"]
    assert "NVIDIA's own package index" in statuses["tensorrt"]["remedy"]
    gpu_machine.add_library("libnvinfer.so.10", gpu_machine.site / "tensorrt_libs")
    assert gpu_machine.statuses()["tensorrt"]["usable"]


def test_a_damaged_library_is_told_in_words() -> None:
    (failure,) = load_failures(Path(__file__)).values()
    assert "is not a shared library for this kind of machine" in failure


def test_tensorrt_rtx_with_and_without_its_plugin(gpu_machine: Machine) -> None:
    missing = gpu_machine.statuses()["tensorrt-rtx"]
    assert missing["reason"] == "the plugin onnxruntime-ep-nv-tensorrt-rtx-cu13 is not installed"
    assert missing["remedy"] == "Run `pip install onnxruntime-ep-nv-tensorrt-rtx-cu13`"
    gpu_machine.add_plugin()
    choice = gpu_machine.select("select_provider(provider='tensorrt-rtx')")
    assert (choice["ort_provider"], choice["target"], choice["device_ids"]) == ("nv_tensorrt_rtx", "portable", [1])
    refused = gpu_machine.select("select_provider(provider='tensorrt-rtx', device=0)")
    assert "does not support device 0, Test GPU 0" in refused["message"]
    (gpu_machine.site / "onnxruntime_ep_nv_tensorrt_rtx" / "plugin.so").unlink()
    assert "its plugin does not load (Failed to load" in gpu_machine.statuses()["tensorrt-rtx"]["reason"]
