"""Providers chosen on machines that are built out of real files, see conftest.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.runtime.providers.skips import linux

if TYPE_CHECKING:
    from tests.runtime.providers.conftest import Machine


@linux
def test_auto_takes_cuda_and_says_so(gpu_machine: Machine) -> None:
    choice = gpu_machine.select("select_provider()")
    assert (choice["name"], choice["ort_provider"]) == ("cuda", "CUDAExecutionProvider")
    assert (choice["precision"], choice["target"], choice["ort_options"]) == ("fp16", "ort", {"device_id": "0"})
    assert choice["reason"].startswith("auto chose cuda: onnxruntime-gpu 1.31.1 (CUDA 13), device 0: Test GPU 0")
    only_fp32 = gpu_machine.select("select_provider(holding(('fp32', 'ort')))")
    assert only_fp32["precision"] == "fp32"
    assert only_fp32["ort_options"] == {"device_id": "0", "use_tf32": "0"}


@linux
def test_auto_takes_the_cpu_and_says_why_not_cuda(machine: Machine) -> None:
    machine.add_onnxruntime("onnxruntime", "1.32.0", gpu=False)
    choice = machine.select("select_provider(provider='auto')")
    assert (choice["name"], choice["precision"], choice["target"], choice["ort_options"]) == ("cpu", "fp32", "ort", {})
    assert choice["reason"].startswith("auto chose cpu: onnxruntime 1.32.0, ")
    assert choice["reason"].endswith(" (not cuda: `scgenept-rt providers` says why)")


@linux
def test_auto_follows_the_environment_variable(gpu_machine: Machine) -> None:
    gpu_machine.add_library("libnvinfer.so.10")
    order = {"SCGENEPT_RT_AUTO_PROVIDERS": "tensorrt, cuda"}
    both = "select_provider(holding(('fp16', 'ort'), ('fp16', 'portable')))"
    assert gpu_machine.select(both, **order)["name"] == "tensorrt"
    without = gpu_machine.select("select_provider(holding(('fp16', 'ort')))", **order)
    assert without["name"] == "cuda"
    assert "not tensorrt: the bundle has no graph for it" in without["reason"]
    none = gpu_machine.select("select_provider(holding(('fp16', 'ort')), precision='fp32')", **order)
    assert none["error"] == "ProviderUnavailableError"
    assert "the bundle has no fp32 graph for it" in none["message"]
    wrong = gpu_machine.select("select_provider(provider='auto')", SCGENEPT_RT_AUTO_PROVIDERS="cuda,tensortr")
    assert wrong["error"] == "ArgumentError"
    assert "environment variable SCGENEPT_RT_AUTO_PROVIDERS: unknown provider 'tensortr'" in wrong["message"]


@linux
def test_unusable_provider_is_refused_with_reason_and_remedy(machine: Machine) -> None:
    machine.add_driver((9, 0))
    machine.add_onnxruntime("onnxruntime", "1.32.0", gpu=False)
    assert machine.select("select_provider(provider='cuda')") == {
        "error": "ProviderUnavailableError",
        "message": "provider cuda: the CPU wheel onnxruntime 1.32.0 has no provider cuda. "
        "Run `pip uninstall -y onnxruntime && pip install 'scgenept-rt[gpu]'`.",
    }


@linux
def test_device_that_does_not_exist(gpu_machine: Machine) -> None:
    assert gpu_machine.select("select_provider(provider='cuda', device=1)")["ort_options"]["device_id"] == "1"
    error = gpu_machine.select("select_provider(device=2)")
    assert error["error"] == "ProviderError"
    assert "there is no device 2" in error["message"]
    assert "0: Test GPU 0, 1: Test GPU 1" in error["message"]
    assert "runs on no GPU" in gpu_machine.select("select_provider(provider='cpu', device=0)")["message"]
    hidden = gpu_machine.select("select_provider(device=0)", CUDA_VISIBLE_DEVICES="")
    assert "cpu: device 0 was asked for" in hidden["message"]


@linux
def test_several_devices(gpu_machine: Machine) -> None:
    same = {"GPU_NAME": "H100"}
    both = gpu_machine.select("select_provider(device='1,0', precision='fp32')", **same)
    assert both["device_ids"] == [1, 0]
    assert "on devices 1,0" in both["reason"]
    assert gpu_machine.select("select_provider(device='all')", **same)["device_ids"] == [0, 1]
    second = gpu_machine.select("select_provider(device='1,0', precision='fp32').per_device['device 0']", **same)
    assert (second["device_ids"], second["ort_options"]) == ([0], {"device_id": "0", "use_tf32": "0"})
    mixed = gpu_machine.select("select_provider(device='all')")
    assert mixed["error"] == "ArgumentError"
    assert "Test GPU 0 (0), Test GPU 1 (1). Pass device='0' to" in mixed["message"]
    assert "there is no device 3" in gpu_machine.select("select_provider(device=[0, 3])")["message"]
    assert "runs on no GPU" in gpu_machine.select("select_provider(provider='cpu', device='all')")["message"]
    hidden = gpu_machine.select("select_provider(device='0,1')", CUDA_VISIBLE_DEVICES="")
    assert "cpu: device 0,1 was asked for" in hidden["message"]


@linux
def test_session_that_fell_back_to_the_cpu_is_an_error(gpu_machine: Machine) -> None:
    error = gpu_machine.select("verify_active(['CPUExecutionProvider'], select_provider(provider='cuda'))")
    assert error["error"] == "ProviderUnavailableError"
    assert "on CPUExecutionProvider instead of CUDAExecutionProvider" in error["message"]
    active = "['CUDAExecutionProvider', 'CPUExecutionProvider']"
    assert gpu_machine.select(f"verify_active({active}, select_provider(provider='cuda'))") is None
