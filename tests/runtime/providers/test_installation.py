"""ONNX Runtime missing, of the wrong wheel or broken, on machines that are built out of real files, see conftest.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.runtime.providers.skips import linux, no_driver_here

if TYPE_CHECKING:
    from tests.runtime.providers.conftest import Machine


@linux
def test_without_onnxruntime_every_line_says_how_to_install_it(machine: Machine) -> None:
    statuses = machine.statuses()
    assert not any(status["usable"] for status in statuses.values())
    assert statuses["cpu"]["reason"] == "onnxruntime is not installed"
    assert statuses["cpu"]["remedy"] == "Run `pip install 'scgenept-rt[cpu]'`"
    assert statuses["cuda"]["reason"].startswith("onnxruntime is not installed")
    assert statuses["cuda"]["remedy"].endswith("pip install 'scgenept-rt[gpu]'`")
    assert statuses["tensorrt-rtx"]["remedy"].endswith("pip install 'scgenept-rt[tensorrt-rtx]'`")
    assert statuses["torch"]["reason"].startswith("PyTorch is not installed")


@linux
@no_driver_here()
def test_cpu_wheel_on_a_machine_without_gpu(machine: Machine) -> None:
    machine.add_onnxruntime("onnxruntime", "1.32.0", gpu=False)
    statuses = machine.statuses()
    assert statuses["cpu"]["usable"]
    assert statuses["cpu"]["reason"].startswith("onnxruntime 1.32.0")
    assert statuses["cuda"]["reason"] == (
        "the CPU wheel onnxruntime 1.32.0 has no provider cuda; "
        "no NVIDIA driver is installed (libcuda.so.1 does not load)"
    )
    assert statuses["cuda"]["remedy"] == (
        "On a machine with an NVIDIA GPU, run `pip uninstall -y onnxruntime && pip install 'scgenept-rt[gpu]'`"
    )
    assert "no provider tensorrt" in statuses["tensorrt"]["reason"]
    assert "onnxruntime-ep-nv-tensorrt-rtx-cu13 is not installed" in statuses["tensorrt-rtx"]["reason"]


@linux
def test_cpu_wheel_beside_a_gpu_says_to_change_the_wheel(machine: Machine) -> None:
    machine.add_driver((9, 0))
    machine.add_onnxruntime("onnxruntime", "1.32.0", gpu=False)
    cuda = machine.statuses()["cuda"]
    assert cuda["reason"] == "the CPU wheel onnxruntime 1.32.0 has no provider cuda"
    assert cuda["remedy"] == "Run `pip uninstall -y onnxruntime && pip install 'scgenept-rt[gpu]'`"
    assert cuda["details"]["devices"][0]["name"] == "Test GPU 0"


@linux
def test_both_wheels_are_said_to_overwrite_each_other(gpu_machine: Machine) -> None:
    gpu_machine.add_wheel("onnxruntime", "1.32.0")
    statuses = gpu_machine.statuses()
    both = "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are installed together and overwrite each other's files"
    assert statuses["cuda"]["reason"] == both
    assert statuses["cuda"]["remedy"] == (
        "Run `pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'scgenept-rt[gpu]'`"
    )
    assert statuses["cpu"]["usable"]
    assert both.removeprefix("onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1") in statuses["cpu"]["reason"]
    assert statuses["cpu"]["remedy"].startswith("Run `pip uninstall -y onnxruntime onnxruntime-gpu")


@linux
def test_files_gone_after_one_of_two_wheels_was_uninstalled(machine: Machine) -> None:
    machine.add_wheel("onnxruntime-gpu", "1.31.1")
    for leave_directory in (False, True):
        if leave_directory:
            (machine.site / "onnxruntime" / "capi").mkdir(parents=True)
        cpu = machine.statuses()["cpu"]
        assert cpu["reason"] == "onnxruntime-gpu 1.31.1 is recorded as installed, but its files are gone"
        assert cpu["remedy"] == "Run `pip uninstall -y onnxruntime-gpu && pip install 'scgenept-rt[cpu]'`"


@linux
def test_onnxruntime_that_does_not_import(machine: Machine) -> None:
    capi = machine.add_onnxruntime("onnxruntime", "1.32.0", gpu=False)
    (capi.parent / "__init__.py").write_text("raise ImportError('libonnxruntime.so.1: cannot open shared object file')")
    cpu = machine.statuses()["cpu"]
    assert "onnxruntime 1.32.0 does not import (libonnxruntime.so.1: cannot open" in cpu["reason"]
