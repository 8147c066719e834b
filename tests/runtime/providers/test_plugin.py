"""TensorRT-RTX, on machines that are built out of real files, see conftest.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.runtime.providers.skips import linux

if TYPE_CHECKING:
    from tests.runtime.providers.conftest import Machine


@linux
def test_tensorrt_rtx_on_a_gpu_that_it_does_not_support(gpu_machine: Machine) -> None:
    gpu_machine.add_driver((9, 0))
    gpu_machine.add_plugin()
    status = gpu_machine.statuses()["tensorrt-rtx"]
    assert "TensorRT-RTX does not support Test GPU 0 (compute capability 9.0)" in status["reason"]
    assert status["remedy"] == "Use the provider cuda"


@linux
def test_tensorrt_rtx_with_its_plugin(gpu_machine: Machine) -> None:
    missing = gpu_machine.statuses()["tensorrt-rtx"]
    assert missing["reason"] == "the plugin onnxruntime-ep-nv-tensorrt-rtx-cu13 is not installed"
    assert missing["remedy"] == "Run `pip install onnxruntime-ep-nv-tensorrt-rtx-cu13`"
    gpu_machine.add_plugin()
    status = gpu_machine.statuses()["tensorrt-rtx"]
    assert status["usable"], status
    choice = gpu_machine.select("select_provider(provider='tensorrt-rtx')")
    assert (choice["ort_provider"], choice["target"], choice["device_ids"]) == ("nv_tensorrt_rtx", "portable", [1])
    refused = gpu_machine.select("select_provider(provider='tensorrt-rtx', device=0)")
    assert "does not support device 0, Test GPU 0" in refused["message"]
    (gpu_machine.site / "onnxruntime_ep_nv_tensorrt_rtx" / "plugin.so").unlink()
    assert "its plugin does not load (Failed to load" in gpu_machine.statuses()["tensorrt-rtx"]["reason"]
