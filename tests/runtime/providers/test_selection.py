"""Providers chosen on machines that are built out of real files, see conftest.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.runtime.providers.conftest import Machine


def test_auto_takes_cuda_and_says_so(gpu_machine: Machine) -> None:
    choice = gpu_machine.select("select_provider()")
    assert (choice["name"], choice["ort_provider"]) == ("cuda", "CUDAExecutionProvider")
    assert (choice["precision"], choice["target"], choice["ort_options"]) == ("fp16", "ort", {"device_id": "0"})
    assert choice["reason"].startswith("auto chose cuda: onnxruntime-gpu 1.31.1 (CUDA 13), device 0: Test GPU 0")
    only_fp32 = gpu_machine.select("select_provider(holding(('fp32', 'ort')))")
    assert only_fp32["precision"] == "fp32"
    assert only_fp32["ort_options"] == {"device_id": "0", "use_tf32": "0"}


def test_auto_takes_the_cpu_and_says_why_not_cuda(machine: Machine) -> None:
    machine.add_onnxruntime("onnxruntime", "1.32.0", gpu=False)
    choice = machine.select("select_provider(provider='auto')")
    assert (choice["name"], choice["precision"], choice["target"], choice["ort_options"]) == ("cpu", "fp32", "ort", {})
    assert choice["reason"].startswith("auto chose cpu: onnxruntime 1.32.0, ")
    assert choice["reason"].endswith(" (not cuda: `scgenept-rt providers` says why)")


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--provider gpu", "unknown provider 'gpu', expected one of auto, cpu, cuda, "),
        (
            "--provider cuda --precision fp16",
            "holds no fp16 graph for the target 'ort' (it holds: fp32 ort, ",
        ),
        ("--precision fp16", "cuda: the bundle has no fp16 graph for it; cpu: the bundle has no fp16 graph for it"),
        (
            "--provider tensorrt-rtx",
            "provider tensorrt-rtx: the plugin onnxruntime-ep-nv-",
        ),
    ],
)
def test_what_cannot_be_had_is_one_message_without_a_traceback(
    gpu_machine: Machine, fp32_bundle: Path, options: str, message: str
) -> None:
    code = "from scgenept_rt.cli import main; main()"
    result = gpu_machine.run(code, "verify", str(fp32_bundle), *options.split())
    assert result.returncode == 1, result.stdout + result.stderr
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert message in result.stderr


def test_device_that_does_not_exist(gpu_machine: Machine) -> None:
    assert gpu_machine.select("select_provider(provider='cuda', device=1)")["ort_options"]["device_id"] == "1"
    error = gpu_machine.select("select_provider(device=2)")
    assert error["error"] == "ProviderError"
    assert "there is no device 2" in error["message"]
    assert "0: Test GPU 0, 1: Test GPU 1" in error["message"]
    assert "runs on no GPU" in gpu_machine.select("select_provider(provider='cpu', device=0)")["message"]


def test_several_devices(gpu_machine: Machine) -> None:
    same = {"GPU_NAME": "H100"}
    both = gpu_machine.select("select_provider(device='1,0', precision='fp32')", **same)
    assert both["device_ids"] == [1, 0]
    assert "on devices 1,0" in both["reason"]
    assert gpu_machine.select("select_provider(device='all')", **same)["device_ids"] == [0, 1]
    second = gpu_machine.select("select_provider(device='1,0').per_device['device 0']", **same)
    assert second["ort_options"] == {"device_id": "0"}
    mixed = gpu_machine.select("select_provider(device='all')")
    assert mixed["error"] == "ArgumentError"
    assert "Test GPU 0 (0), Test GPU 1 (1). Pass device='0' to" in mixed["message"]
    assert "there is no device 3" in gpu_machine.select("select_provider(device=[0, 3])")["message"]
    hidden = gpu_machine.select("select_provider(device='0,1')", CUDA_VISIBLE_DEVICES="")
    assert "cpu: device 0,1 was asked for" in hidden["message"]


def test_session_that_fell_back_to_the_cpu_is_an_error(gpu_machine: Machine) -> None:
    error = gpu_machine.select("verify_active(['CPUExecutionProvider'], select_provider(provider='cuda'))")
    assert error["error"] == "ProviderUnavailableError"
    assert "on CPUExecutionProvider instead of CUDAExecutionProvider" in error["message"]
    active = "['CUDAExecutionProvider', 'CPUExecutionProvider']"
    assert gpu_machine.select(f"verify_active({active}, select_provider(provider='cuda'))") is None
