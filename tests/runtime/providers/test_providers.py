"""Providers on machines that are built out of real files, see conftest.py."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from scgenept_rt.errors import ProviderNotActiveError, UnknownProviderError
from scgenept_rt.providers import PROVIDER_NAMES, cpu_threads, diagnose_provider, select_provider, verify_active
from scgenept_rt.providers.libraries import cuda_major_of, named_library, needed_libraries, wheel_of

if TYPE_CHECKING:
    from tests.runtime.providers.conftest import Machine

linux = pytest.mark.skipif(sys.platform != "linux", reason="builds a Linux machine out of files")


def loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def no_driver_here() -> pytest.MarkDecorator:
    return pytest.mark.skipif(loads("libcuda.so.1"), reason="this machine has an NVIDIA driver")


# --- not installed, wrong wheel ---------------------------------------------------------------------------------------


@linux
def test_without_onnxruntime_every_line_says_how_to_install_it(machine: Machine) -> None:
    statuses = machine.statuses()
    assert not any(status["usable"] for status in statuses.values())
    assert statuses["cpu"]["reason"] == "onnxruntime is not installed"
    assert statuses["cpu"]["remedy"] == "pip install 'scgenept-rt[cpu]'"
    assert statuses["cuda"]["reason"].startswith("onnxruntime is not installed")
    assert statuses["cuda"]["remedy"].endswith("pip install 'scgenept-rt[gpu]'")
    assert statuses["tensorrt-rtx"]["remedy"].endswith("pip install 'scgenept-rt[tensorrt-rtx]'")
    assert statuses["torch"]["reason"].startswith("PyTorch is not installed")


@linux
@no_driver_here()
def test_cpu_wheel_on_a_machine_without_gpu(machine: Machine) -> None:
    machine.add_onnxruntime("onnxruntime", "1.32.0", gpu=False)
    statuses = machine.statuses()
    assert statuses["cpu"]["usable"]
    assert statuses["cpu"]["reason"].startswith("onnxruntime 1.32.0, ")
    assert statuses["cuda"]["reason"] == (
        "the CPU wheel onnxruntime 1.32.0 has no CUDA provider; "
        "no NVIDIA driver is installed (libcuda.so.1 does not load)"
    )
    assert statuses["cuda"]["remedy"] == (
        "on a machine with an NVIDIA GPU: pip uninstall -y onnxruntime && pip install 'scgenept-rt[gpu]'"
    )
    assert "no TensorRT provider" in statuses["tensorrt"]["reason"]
    assert "onnxruntime-ep-nv-tensorrt-rtx-cu13 is not installed" in statuses["tensorrt-rtx"]["reason"]


@linux
def test_cpu_wheel_beside_a_gpu_says_to_change_the_wheel(machine: Machine) -> None:
    machine.add_driver((9, 0))
    machine.add_onnxruntime("onnxruntime", "1.32.0", gpu=False)
    cuda = machine.statuses()["cuda"]
    assert cuda["reason"] == "the CPU wheel onnxruntime 1.32.0 has no CUDA provider"
    assert cuda["remedy"] == "pip uninstall -y onnxruntime && pip install 'scgenept-rt[gpu]'"
    assert cuda["details"]["devices"][0]["name"] == "Test GPU 0"


@linux
def test_both_wheels_are_said_to_overwrite_each_other(gpu_machine: Machine) -> None:
    gpu_machine.add_wheel("onnxruntime", "1.32.0")
    statuses = gpu_machine.statuses()
    both = "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are installed together and overwrite each other's files"
    assert statuses["cuda"]["reason"] == both
    assert statuses["cuda"]["remedy"] == (
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'scgenept-rt[gpu]'"
    )
    assert statuses["cpu"]["usable"]
    assert both.removeprefix("onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1") in statuses["cpu"]["reason"]
    assert statuses["cpu"]["remedy"].startswith("pip uninstall -y onnxruntime onnxruntime-gpu")


@linux
def test_files_gone_after_one_of_two_wheels_was_uninstalled(machine: Machine) -> None:
    machine.add_wheel("onnxruntime-gpu", "1.31.1")
    for leave_directory in (False, True):
        if leave_directory:
            (machine.site / "onnxruntime" / "capi").mkdir(parents=True)
        cpu = machine.statuses()["cpu"]
        assert cpu["reason"] == "onnxruntime-gpu 1.31.1 is recorded as installed, but its files are gone"
        assert cpu["remedy"] == "pip uninstall -y onnxruntime-gpu && pip install 'scgenept-rt[cpu]'"


@linux
def test_onnxruntime_and_torch_that_the_process_blocks(machine: Machine) -> None:
    machine.add_wheel("onnxruntime", "1.32.0")
    code = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("onnxruntime", "torch", "onnxruntime_ep_nv_tensorrt_rtx"):
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocker())
from scgenept_rt.providers import diagnose
print(*[(status.name, status.usable) for status in diagnose()], sep="\\n")
"""
    result = machine.run(code)
    assert result.stderr == ""
    assert result.stdout.splitlines() == [str((name, False)) for name in PROVIDER_NAMES]


@linux
def test_onnxruntime_that_does_not_import(machine: Machine) -> None:
    capi = machine.add_onnxruntime("onnxruntime", "1.32.0", gpu=False)
    (capi.parent / "__init__.py").write_text("raise ImportError('libonnxruntime.so.1: cannot open shared object file')")
    cpu = machine.statuses()["cpu"]
    assert "onnxruntime 1.32.0 does not import (libonnxruntime.so.1: cannot open" in cpu["reason"]


# --- libraries that do not load ---------------------------------------------------------------------------------------


@linux
@pytest.mark.skipif(loads("libcudnn.so.9"), reason="this machine has cuDNN where the loader finds it")
@pytest.mark.parametrize(("cuda", "wheel"), [("13.0", "nvidia-cudnn-cu13"), ("12.8", "nvidia-cudnn-cu12")])
def test_missing_cudnn_is_named_with_its_wheel(machine: Machine, cuda: str, wheel: str) -> None:
    machine.add_driver((9, 0))
    machine.add_onnxruntime(cuda=cuda)
    machine.add_provider_library("cuda", ["libcudnn.so.9"])
    status = machine.statuses()["cuda"]
    assert status["reason"] == "onnxruntime-gpu 1.31.1: libcudnn.so.9 does not load"
    assert status["remedy"] == f"pip install {wheel}"
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
    machine.add_onnxruntime(cuda="")
    machine.add_provider_library("cuda", ["libcublas.so.99", "libcublasLt.so.99", "libcurand.so.99", "libcudnn.so.9"])
    machine.add_library("libcudnn.so.9")
    status = machine.statuses()["cuda"]
    assert status["details"]["cuda_major"] == 99
    assert "libcublas.so.99, libcublasLt.so.99, libcurand.so.99 do not load" in status["reason"]
    assert "no NVIDIA driver" in status["reason"]
    assert status["remedy"] == "on a machine with an NVIDIA GPU: pip install nvidia-cublas nvidia-curand"


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
    assert status["remedy"] == "pip install nvidia-cudnn-cu13"


@linux
@pytest.mark.parametrize("content", [None, b"not a library"])
def test_missing_or_broken_provider_library(gpu_machine: Machine, content: bytes | None) -> None:
    library = gpu_machine.site / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
    library.unlink()
    if content is not None:
        library.write_bytes(content)
    status = gpu_machine.statuses()["cuda"]
    assert "libonnxruntime_providers_cuda.so does not load" in status["reason"]
    assert status["remedy"] == "pip install --force-reinstall --no-deps onnxruntime-gpu"


@linux
@pytest.mark.skipif(loads("libnvinfer.so.10"), reason="this machine has TensorRT")
def test_missing_tensorrt_is_said_to_come_from_nvidia_alone(gpu_machine: Machine) -> None:
    statuses = gpu_machine.statuses()
    assert statuses["cuda"]["usable"]
    assert statuses["tensorrt"]["reason"] == "onnxruntime-gpu 1.31.1: libnvinfer.so.10 does not load"
    assert "NVIDIA's own package index" in statuses["tensorrt"]["remedy"]
    assert "--provider cuda" in statuses["tensorrt"]["remedy"]


@linux
def test_tensorrt_of_its_wheel_is_found(gpu_machine: Machine) -> None:
    directory = gpu_machine.site / "tensorrt_libs"
    directory.mkdir()
    gpu_machine.compile(directory / "libnvinfer.so.10", "void stub(void) {}")
    assert gpu_machine.statuses()["tensorrt"]["usable"]


# --- devices ----------------------------------------------------------------------------------------------------------


@linux
@pytest.mark.parametrize("visible", ["", "-1"])
def test_hidden_gpus(gpu_machine: Machine, visible: str) -> None:
    status = gpu_machine.statuses(CUDA_VISIBLE_DEVICES=visible)["cuda"]
    assert "CUDA_VISIBLE_DEVICES" in status["reason"]
    assert "hides every GPU" in status["reason"]
    assert status["remedy"].startswith("unset CUDA_VISIBLE_DEVICES")


@linux
@pytest.mark.parametrize(
    ("driver", "reason", "remedy"),
    [
        ({}, "the NVIDIA driver finds no GPU", "nvidia-smi"),
        ({"init": 100}, "the NVIDIA driver finds no GPU", "nvidia-smi"),
        ({"init": 802}, "fabric manager", "nvidia-fabricmanager"),
        ({"init": 803}, "differ in version", "restart"),
        ({"init": 999}, "CUDA error 999", "nvidia-smi"),
    ],
)
def test_driver_without_a_gpu(gpu_machine: Machine, driver: dict[str, int], reason: str, remedy: str) -> None:
    gpu_machine.add_driver(**driver)
    status = gpu_machine.statuses()["cuda"]
    assert reason in status["reason"]
    assert remedy in status["remedy"]


@linux
def test_number_of_a_gpu_that_does_not_exist_in_the_environment(gpu_machine: Machine) -> None:
    gpu_machine.add_driver()
    assert "CUDA_VISIBLE_DEVICES=7 names none" in gpu_machine.statuses(CUDA_VISIBLE_DEVICES="7")["cuda"]["reason"]


@linux
def test_driver_too_old_for_the_build(gpu_machine: Machine) -> None:
    gpu_machine.add_driver((9, 0), version=12040)
    status = gpu_machine.statuses()["cuda"]
    assert "too old: it runs CUDA up to 12.4, this onnxruntime needs CUDA 13" in status["reason"]
    assert status["remedy"] == "update the NVIDIA driver to 580.65 or newer"


@linux
def test_gpu_too_old_for_cuda_13(gpu_machine: Machine) -> None:
    gpu_machine.add_driver((7, 0))
    assert "CUDA 13 does not support Test GPU 0 (compute capability 7.0)" in gpu_machine.statuses()["cuda"]["reason"]


@linux
def test_tensorrt_rtx_on_a_gpu_that_it_does_not_support(gpu_machine: Machine) -> None:
    gpu_machine.add_driver((9, 0))
    gpu_machine.add_plugin()
    status = gpu_machine.statuses()["tensorrt-rtx"]
    assert "TensorRT-RTX does not support Test GPU 0 (compute capability 9.0)" in status["reason"]
    assert status["remedy"] == "use --provider cuda"


@linux
def test_tensorrt_rtx_with_its_plugin(gpu_machine: Machine) -> None:
    missing = gpu_machine.statuses()["tensorrt-rtx"]
    assert missing["reason"] == "the plugin onnxruntime-ep-nv-tensorrt-rtx-cu13 is not installed"
    assert missing["remedy"] == "pip install onnxruntime-ep-nv-tensorrt-rtx-cu13"
    gpu_machine.add_plugin()
    status = gpu_machine.statuses()["tensorrt-rtx"]
    assert status["usable"], status
    choice = gpu_machine.select("select_provider('tensorrt-rtx')")
    assert (choice["ort_provider"], choice["target"], choice["device_id"]) == ("nv_tensorrt_rtx", "portable", 1)
    refused = gpu_machine.select("select_provider('tensorrt-rtx', device_id=0)")
    assert "does not support device 0, Test GPU 0" in refused["message"]
    (gpu_machine.site / "onnxruntime_ep_nv_tensorrt_rtx" / "plugin.so").unlink()
    assert "its plugin does not load (Failed to load" in gpu_machine.statuses()["tensorrt-rtx"]["reason"]


@linux
def test_torch_is_looked_for_but_not_imported(machine: Machine) -> None:
    machine.add_wheel("torch", "2.13.0")
    (machine.site / "torch.py").write_text("raise SystemExit('imported')")
    status = machine.statuses()["torch"]
    assert "PyTorch 2.13.0 is here, but no installed package offers the backend" in status["reason"]
    backend = machine.site / "backend-1.dist-info"
    backend.mkdir()
    (backend / "METADATA").write_text("Metadata-Version: 2.1\nName: backend\nVersion: 1\n")
    (backend / "entry_points.txt").write_text("[scgenept_rt.backends]\ntorch = somewhere:Backend\n")
    assert machine.statuses()["torch"]["usable"]


# --- choosing ---------------------------------------------------------------------------------------------------------


@linux
def test_auto_takes_cuda_and_says_so(gpu_machine: Machine) -> None:
    choice = gpu_machine.select("select_provider()")
    assert (choice["name"], choice["ort_provider"]) == ("cuda", "CUDAExecutionProvider")
    assert (choice["precision"], choice["target"], choice["options"]) == ("fp16", "ort", {"device_id": "0"})
    assert choice["reason"].startswith("auto chose cuda: onnxruntime-gpu 1.31.1 (CUDA 13), device 0: Test GPU 0")
    only_fp32 = gpu_machine.select("select_provider(graphs=[('fp32', 'ort')])")
    assert only_fp32["precision"] == "fp32"
    assert only_fp32["options"] == {"device_id": "0", "use_tf32": "0"}


@linux
def test_auto_takes_the_cpu_and_says_why_not_cuda(machine: Machine) -> None:
    machine.add_onnxruntime("onnxruntime", "1.32.0", gpu=False)
    choice = machine.select("select_provider('auto')")
    assert (choice["name"], choice["precision"], choice["target"], choice["options"]) == ("cpu", "fp32", "ort", {})
    assert choice["reason"].startswith("auto chose cpu: onnxruntime 1.32.0, ")
    assert "(not cuda: the CPU wheel onnxruntime 1.32.0 has no CUDA provider" in choice["reason"]


@linux
def test_auto_follows_the_environment_variable(gpu_machine: Machine) -> None:
    gpu_machine.add_library("libnvinfer.so.10")
    order = {"SCGENEPT_RT_AUTO_PROVIDERS": "tensorrt, cuda"}
    both = "graphs=[('fp16', 'ort'), ('fp16', 'portable')]"
    assert gpu_machine.select(f"select_provider('auto', {both})", **order)["name"] == "tensorrt"
    without = gpu_machine.select("select_provider('auto', graphs=[('fp16', 'ort')])", **order)
    assert without["name"] == "cuda"
    assert "not tensorrt: the bundle has no graph for it" in without["reason"]
    none = gpu_machine.select("select_provider('auto', graphs=[('fp16', 'ort')], precision='fp32')", **order)
    assert none["error"] == "ProviderUnavailableError"
    assert "the bundle has no fp32 graph for it" in none["message"]
    wrong = gpu_machine.select("select_provider('auto')", SCGENEPT_RT_AUTO_PROVIDERS="cuda,tensortr")
    assert wrong["error"] == "UnknownProviderError"
    assert "'tensortr' in the environment variable SCGENEPT_RT_AUTO_PROVIDERS" in wrong["message"]
    assert "Did you mean 'tensorrt'?" in wrong["message"]


@linux
def test_unusable_provider_is_refused_with_reason_and_remedy(machine: Machine) -> None:
    machine.add_driver((9, 0))
    machine.add_onnxruntime("onnxruntime", "1.32.0", gpu=False)
    assert machine.select("select_provider('cuda')") == {
        "error": "ProviderUnavailableError",
        "message": "provider cuda is not usable here: the CPU wheel onnxruntime 1.32.0 has no CUDA provider. "
        "Next: pip uninstall -y onnxruntime && pip install 'scgenept-rt[gpu]'.",
    }


@linux
def test_device_that_does_not_exist(gpu_machine: Machine) -> None:
    assert gpu_machine.select("select_provider('cuda', device_id=1)")["options"]["device_id"] == "1"
    for index in (2, -1):
        error = gpu_machine.select(f"select_provider(device_id={index})")
        assert error["error"] == "DeviceNotFoundError"
        assert f"there is no device {index}" in error["message"]
        assert "0: Test GPU 0, 1: Test GPU 1" in error["message"]
    assert "runs on no GPU" in gpu_machine.select("select_provider('cpu', device_id=0)")["message"]
    hidden = gpu_machine.select("select_provider(device_id=0)", CUDA_VISIBLE_DEVICES="")
    assert "cpu: device 0 was asked for" in hidden["message"]


@linux
def test_session_that_fell_back_to_the_cpu_is_an_error(gpu_machine: Machine) -> None:
    error = gpu_machine.select("verify_active(['CPUExecutionProvider'], select_provider('cuda'))")
    assert error["error"] == "ProviderNotActiveError"
    assert "on CPUExecutionProvider instead of CUDAExecutionProvider" in error["message"]
    active = "['CUDAExecutionProvider', 'CPUExecutionProvider']"
    assert gpu_machine.select(f"verify_active({active}, select_provider('cuda'))") is None


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("cdua", "cuda"),
        ("CUDA", "cuda"),
        ("gpu", "cuda"),
        ("CPUExecutionProvider", "cpu"),
        ("tensorrt_rtx", "tensorrt-rtx"),
    ],
)
def test_unknown_provider_is_answered_with_the_names(name: str, suggestion: str) -> None:
    with pytest.raises(UnknownProviderError, match=f"Did you mean '{suggestion}'") as caught:
        select_provider(name)
    assert "auto, cpu, cuda, tensorrt, tensorrt-rtx, torch" in str(caught.value)
    with pytest.raises(ValueError, match="unknown provider 'zzz'"):
        select_provider("zzz")


# --- the real ONNX Runtime of this environment ------------------------------------------------------------------------


def test_the_installed_onnxruntime_is_usable_on_the_cpu() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    status = diagnose_provider("cpu")
    assert status.usable
    assert onnxruntime.__version__ in status.reason
    choice = select_provider("cpu")
    assert choice.ort_providers == [("CPUExecutionProvider", {})]
    verify_active(["CPUExecutionProvider"], choice)
    with pytest.raises(ProviderNotActiveError):
        verify_active([], choice)


@linux
def test_needed_libraries_of_the_installed_onnxruntime() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    library = Path(onnxruntime.__file__).parent / "capi" / "libonnxruntime_providers_shared.so"
    assert "libc.so.6" in needed_libraries(library)
    assert cuda_major_of(library) is None
    with pytest.raises(ValueError, match="not a 64-bit"):
        needed_libraries(Path(onnxruntime.__file__))


@linux
def test_command_prints_a_line_a_provider_and_json(machine: Machine) -> None:
    machine.add_onnxruntime("onnxruntime", "1.32.0", gpu=False)
    code = "from scgenept_rt.cli import main; main()"
    table = machine.run(code, "providers")
    assert (table.returncode, table.stderr) == (0, "")
    lines = table.stdout.splitlines()
    rows = [line.split(maxsplit=2) for line in lines if not line.startswith(" ")]
    assert [(name, usable) for name, usable, _ in rows] == [
        ("cpu", "yes"), ("cuda", "no"), ("tensorrt", "no"), ("tensorrt-rtx", "no"), ("torch", "no")
    ]  # fmt: skip
    assert len({line.index(row[2]) for line, row in zip((x for x in lines if x[0] != " "), rows, strict=True)}) == 1
    assert "pip install 'scgenept-rt[gpu]'" in lines[2]
    as_json = machine.run(code, "providers", "--json")
    assert as_json.returncode == 0
    assert list(json.loads(as_json.stdout)[0]) == ["name", "usable", "reason", "remedy", "details"]


# --- what loaders say -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "library"),
    [
        ("libcudnn.so.9: cannot open shared object file: No such file or directory", "libcudnn.so.9"),
        (
            "Error loading shared library libcudart.so.13: No such file or directory (needed by /x/y.so)",
            "libcudart.so.13",
        ),
        ("/opt/x/libcudnn.so.9: file too short", "libcudnn.so.9"),
        (r"Could not find module 'C:\x\cublas64_12.dll' (or one of its dependencies). Try", "cublas64_12.dll"),
        (
            r'Error loading "C:\x\onnxruntime_providers_cuda.dll" which depends on "cudnn64_9.dll" which is missing.',
            "cudnn64_9.dll",
        ),
        (
            "Failed to load library libonnxruntime_providers_cuda.so with error: libcublasLt.so.12: cannot open shared "
            "object file: No such file or directory",
            "libcublasLt.so.12",
        ),
        ("out of memory", None),
    ],
)
def test_library_that_a_message_names(message: str, library: str | None) -> None:
    assert named_library(message) == library


@pytest.mark.parametrize(
    ("library", "wheel"),
    [
        ("libcudart.so.13", "nvidia-cuda-runtime"),
        ("libcudart.so.12", "nvidia-cuda-runtime-cu12"),
        ("libcublasLt.so.12", "nvidia-cublas-cu12"),
        ("libcufft.so.11", "nvidia-cufft-cu12"),
        ("libcufft.so.12", "nvidia-cufft"),
        ("libcurand.so.10", "nvidia-curand"),
        ("libcudnn_adv.so.9", "nvidia-cudnn-cu13"),
        ("cudnn_engines_precompiled64_9.dll", "nvidia-cudnn-cu13"),
        ("cudart64_12.dll", "nvidia-cuda-runtime-cu12"),
        ("libstdc++.so.6", None),
    ],
)
def test_wheel_that_brings_a_library(library: str, wheel: str | None) -> None:
    assert wheel_of(library, cuda_major=13) == wheel


# --- threads ----------------------------------------------------------------------------------------------------------


def cgroup(root: Path, membership: str, files: dict[str, str]) -> Path:
    for name, text in {"proc/self/cgroup": membership, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


ONE_CPU_V1 = {"cpu.cfs_quota_us": "150000\n", "cpu.cfs_period_us": "100000\n"}


@linux
@pytest.mark.parametrize(
    ("membership", "files"),
    [
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/cpu.max": "100000 100000\n"}),
        ("0::/a/b\n", {"sys/fs/cgroup/a/b/cpu.max": "max 100000\n", "sys/fs/cgroup/a/cpu.max": "150000 100000\n"}),
        ("0::/host/path\n", {"sys/fs/cgroup/cpu.max": "50000 100000\n"}),
        ("3:cpu,cpuacct:/job\n", {f"sys/fs/cgroup/cpu,cpuacct/job/{k}": v for k, v in ONE_CPU_V1.items()}),
        ("3:cpu,cpuacct:/host/path\n", {f"sys/fs/cgroup/cpu/{k}": v for k, v in ONE_CPU_V1.items()}),
    ],
    ids=["v2", "v2 parent", "v2 container", "v1", "v1 container"],
)
def test_cgroup_quota_of_one_cpu(tmp_path: Path, membership: str, files: dict[str, str]) -> None:
    assert cpu_threads(cgroup(tmp_path, membership, files)) == 1


@linux
@pytest.mark.parametrize(
    "files",
    [
        {},
        {"sys/fs/cgroup/a/cpu.max": "max 100000\n"},
        {"sys/fs/cgroup/a/cpu.max": "nonsense"},
        {"sys/fs/cgroup/a/cpu.max": "100000000 100000\n"},
        {"sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n"},
    ],
)
def test_without_a_quota_the_affinity_counts(tmp_path: Path, files: dict[str, str]) -> None:
    root = cgroup(tmp_path, "0::/a\n3:cpu:/a\n", files)
    assert cpu_threads(root) == len(os.sched_getaffinity(0))
    assert cpu_threads(tmp_path / "nothing here") == len(os.sched_getaffinity(0))


@linux
def test_affinity_limits_the_threads(machine: Machine) -> None:
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from scgenept_rt.providers import cpu_threads; print(cpu_threads())"
    )
    assert machine.run(code).stdout == "1\n"
