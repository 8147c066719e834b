"""Machines that are built here out of real files: wheels, shared libraries, a driver.

Each case runs in a process of its own, whose only packages are the real ones without ONNX Runtime and PyTorch, plus
what the case puts there. Libraries are compiled, so that the dynamic loader itself says what is wrong.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import scgenept_rt
from scgenept_rt.providers import PROVIDER_NAMES

DRIVER = """
#include <stdio.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
static const int capabilities[][2] = {CAPABILITIES {0, 0}};
int cuInit(unsigned flags) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    return visible && (!*visible || *visible == '-') ? 100 : INIT;
}
int cuDriverGetVersion(int *version) { *version = VERSION; return 0; }
int cuDeviceGetCount(int *count) { *count = sizeof(capabilities) / sizeof(capabilities[0]) - 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
    const char *all = getenv("GPU_NAME");
    snprintf(name, size, all ? all : "Test GPU %d", device);
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    const char *total = getenv("TOTAL_MEMORY");
    *bytes = total ? strtoull(total, NULL, 10) : (size_t)80 << 30;
    return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    *value = capabilities[device][attribute == 76];
    return attribute == 75 || attribute == 76 ? 0 : 1;
}
int cuDeviceGetPCIBusId(char *address, int size, int device) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    for (int i = 0; visible && i < device; i++) visible = strchr(visible, ',') + 1;
    snprintf(address, size, "0000:%02x:00.0", 16 + (visible ? atoi(visible) : device));
    return 0;
}
"""

# What is free on GPU n, in bytes, is in the environment variable FREE_n; without it NVML says that it cannot tell.
# NVML's own numbers play no part: it is asked by address.
NVML = """
#include <stdio.h>
#include <stdlib.h>
struct memory { unsigned long long total, free, used; };
int nvmlInit_v2(void) { return 0; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "580.65.06"); return 0; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *address, void **handle) {
    unsigned bus;
    if (sscanf(address, "%*x:%x", &bus) != 1) return 2;
    *handle = (void *)(unsigned long)bus;
    return 0;
}
int nvmlDeviceGetMemoryInfo(void *handle, struct memory *memory) {
    char name[16];
    snprintf(name, sizeof name, "FREE_%lu", (unsigned long)handle - 16);
    const char *free = getenv(name);
    if (!free) return 3;
    memory->total = 100ull << 30;
    memory->free = strtoull(free, NULL, 10);
    memory->used = memory->total - memory->free;
    return 0;
}
"""

# ONNX Runtime's own provider libraries kill the process when something else opens them; so does this one.
PROVIDER_LIBRARY = "#include <stdlib.h>\n__attribute__((constructor)) static void opened(void) { abort(); }\n"

ONNXRUNTIME = """
import ctypes, pathlib, types
__version__ = {version!r}
_here = pathlib.Path(__file__).parent
_registered = []
def get_available_providers():
    return {providers!r}
def preload_dlls():
    for library in sorted(_here.parent.glob("nvidia/*/lib/*.so.*")):
        ctypes.CDLL(str(library))
    print("Failed to load something or other")
def register_execution_provider_library(name, path):
    if not pathlib.Path(path).is_file():
        raise RuntimeError(f"Failed to load library {{path}} with error: no such file")
    if name in _registered:
        raise RuntimeError("library is already registered")
    _registered.append(name)
def get_ep_devices():
    return [types.SimpleNamespace(ep_name=name) for name in _registered]
class SessionOptions:
    devices = ()
    def add_session_config_entry(self, key, value):
        assert (key, value) == ("session.disable_cpu_ep_fallback", "1")
    def add_provider_for_devices(self, devices, options):
        self.devices = devices
class InferenceSession:
    # Compiles an engine into the cache if none lies there, and predicts zero.
    def __init__(self, path, options, providers=None, enable_fallback=1):
        assert not enable_fallback
        self.names = [name for name, _ in providers or []] or [device.ep_name for device in options.devices]
        given = dict(providers[0][1]) if providers else {{}}
        print("session", self.names, {{key: value for key, value in given.items() if not key.endswith("_path")}})
        if "trt_engine_cache_path" in given:
            cache = pathlib.Path(given["trt_engine_cache_path"])
            engine = cache / "graph_sm90.engine"
            if engine.exists():
                print("read an engine")
            else:
                engine.write_bytes(b"engine" * 100)
                (cache / "graph.timing").write_bytes(b"timing")
                print("built an engine")
            if "TRT_BREAKS" in __import__("os").environ:
                raise RuntimeError("TensorRT gave up")
    def get_providers(self):
        return [*self.names, "CPUExecutionProvider"]
    def run(self, outputs, feed):
        print("batch of", len(feed["values"]))
        return [feed["values"] * 0]
"""


COMPILED: dict[tuple[object, ...], bytes] = {}
"""Libraries that were compiled for a machine before."""


class Machine:
    """A directory of packages and one of libraries, and a way to run Python with only those."""

    def __init__(self, root: Path) -> None:
        self.site, self.libraries, self.others = root / "site", root / "lib", root / "others"
        for directory in (self.site, self.libraries, self.others):
            directory.mkdir()
        for directory in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
            for entry in Path(directory).iterdir():
                if not entry.name.startswith(("onnxruntime", "torch", "nvidia", "tensorrt", "scgenept_rt")):
                    (self.others / entry.name).symlink_to(entry)
        (self.others / "scgenept_rt").symlink_to(Path(scgenept_rt.__path__[0]))

    def add_wheel(self, name: str, version: str) -> None:
        information = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
        information.mkdir()
        (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")

    def add_onnxruntime(
        self, wheel: str = "onnxruntime-gpu", version: str = "1.31.1", gpu: bool = True, cuda: str = "13.0"
    ) -> Path:
        """Install a stand-in for ONNX Runtime; return the directory of its provider libraries."""
        self.add_wheel(wheel, version)
        capi = self.site / "onnxruntime" / "capi"
        capi.mkdir(parents=True, exist_ok=True)
        names = ["TensorrtExecutionProvider", "CUDAExecutionProvider"] if gpu else []
        text = ONNXRUNTIME.format(version=version, providers=[*names, "CPUExecutionProvider"])
        (capi.parent / "__init__.py").write_text(text)
        (capi / "__init__.py").touch()
        build = f"package_name = {wheel!r}\n" + (f"cuda_version = {cuda!r}\n" if gpu and cuda else "")
        (capi / "build_and_package_info.py").write_text(build)
        return capi

    def compile(self, path: Path, source: str, *, needs: Sequence[str] = (), defines: dict[str, str] | None = None):
        key = (path.name, source, tuple(needs), *sorted((defines or {}).items()))
        if key in COMPILED:
            path.write_bytes(COMPILED[key])
            return
        compiler = shutil.which("gcc")
        if compiler is None:
            pytest.skip("gcc is not installed: no shared library can be made to fail for real")
        directory = self.libraries.parent / "stubs"
        for name in needs:
            self.add_library(name, directory)
        command = [compiler, "-shared", "-fPIC", "-w", "-o", path, f"-Wl,-soname,{path.name}", "-x", "c", "-"]
        command += [f"-D{name}={value}" for name, value in (defines or {}).items()]
        command += ["-x", "none", "-Wl,--no-as-needed", *(directory / name for name in needs)]
        subprocess.run(command, input=source, text=True, check=True)
        COMPILED[key] = path.read_bytes()

    def add_provider_library(self, name: str, needs: Sequence[str]) -> None:
        capi = self.site / "onnxruntime" / "capi"
        self.compile(capi / f"libonnxruntime_providers_{name}.so", PROVIDER_LIBRARY, needs=needs)

    def add_library(self, name: str, directory: Path | None = None) -> None:
        directory = directory or self.libraries
        directory.mkdir(parents=True, exist_ok=True)
        self.compile(directory / name, "void stub(void) {}")

    def add_driver(self, *capabilities: tuple[int, int], version: int = 13000, init: int = 0) -> None:
        rows = "".join(f"{{{major},{minor}}}," for major, minor in capabilities)
        defines = {"CAPABILITIES": rows, "VERSION": str(version), "INIT": str(init)}
        self.compile(self.libraries / "libcuda.so.1", DRIVER, defines=defines)

    def add_nvml(self) -> None:
        self.compile(self.libraries / "libnvidia-ml.so.1", NVML)

    def add_plugin(self) -> None:
        self.add_wheel("onnxruntime-ep-nv-tensorrt-rtx-cu13", "0.5.0")
        package = self.site / "onnxruntime_ep_nv_tensorrt_rtx"
        package.mkdir()
        (package / "plugin.so").touch()
        (package / "__init__.py").write_text(
            "import pathlib\n"
            "def get_ep_name():\n    return 'nv_tensorrt_rtx'\n"
            "def get_library_path():\n    return str(pathlib.Path(__file__).parent / 'plugin.so')\n"
        )

    def lacks(self, library: str) -> None:
        """Skip the test if the loader finds a library on the real machine."""
        with suppress(OSError):
            ctypes.CDLL(library)
            pytest.skip(f"this machine has {library}")

    def run(self, code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("CUDA_", "SCGENEPT_", "COV_", "ORT_"))}
        variables["PYTHONPATH"] = os.pathsep.join(map(str, (self.site, self.others)))
        variables["LD_LIBRARY_PATH"] = str(self.libraries)
        command = [sys.executable, "-S", "-c", code, *arguments]  # -S: without the real site-packages
        return subprocess.run(command, env=variables | environment, capture_output=True, text=True, check=False)

    def statuses(self, **environment: str) -> dict[str, dict[str, Any]]:
        code = (
            "import dataclasses, json; from scgenept_rt.providers import diagnose\n"
            "print(json.dumps([dataclasses.asdict(status) for status in diagnose()]))"
        )
        result = self.run(code, **environment)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        statuses = json.loads(result.stdout)  # fails if anything else was printed
        assert [status["name"] for status in statuses] == list(PROVIDER_NAMES)
        for status in statuses:
            assert status["reason"], status
            assert "\n" not in status["reason"] + status["remedy"], status
            assert status["usable"] or status["remedy"], status
        return {status["name"]: status for status in statuses}

    def select(self, call: str, **environment: str) -> dict[str, Any]:
        """Evaluate a call of select_provider; return the choice's fields, or the error's class and message."""
        code = f"""
import dataclasses, json
from types import SimpleNamespace
from scgenept_rt.errors import ScgeneptError
from scgenept_rt.providers import select_provider, verify_active
def holding(*graphs):
    files = [SimpleNamespace(precision=precision, target=target) for precision, target in graphs]
    return SimpleNamespace(graphs=lambda: files)
try:
    choice = {call}
    derived = {{name: getattr(choice, name) for name in ("ort_provider", "ort_options")}} if choice else {{}}
    print(json.dumps({{**dataclasses.asdict(choice), **derived}} if choice else None))
except ScgeneptError as error:
    print(json.dumps({{"error": type(error).__name__, "message": str(error)}}))
"""
        result = self.run(code, **environment)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    if sys.platform != "linux":
        pytest.skip("builds a Linux machine out of files")
    return Machine(tmp_path)


@pytest.fixture
def gpu_machine(machine: Machine) -> Machine:
    """An H100 and an L40S, onnxruntime-gpu, and CUDA and cuDNN that load; TensorRT is not installed."""
    machine.add_driver((9, 0), (8, 9))
    machine.add_onnxruntime()
    machine.add_provider_library("cuda", ["libcublas.so.13", "libcudnn.so.9"])
    machine.add_provider_library("tensorrt", ["libcublas.so.13", "libnvinfer.so.10"])
    for name in ("libcublas.so.13", "libcudnn.so.9"):
        machine.add_library(name)
    return machine
