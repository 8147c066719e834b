"""Which shared libraries a provider needs that do not load here, and what brings them.

ONNX Runtime's provider libraries cannot be opened on their own: their initialisers use a pointer that only ONNX Runtime
sets, and the process dies. So the names of the libraries that they need are read from the file, and those are opened.
"""

from __future__ import annotations

import ctypes
import struct
import sys
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

from scgenept_rt.installing import pip_command
from scgenept_rt.providers.elf import needed_libraries

# Examined with the devices, where a missing driver is explained better than by a file name.
_DRIVER_LIBRARIES = ("libcuda.so", "libnvidia-ml.so")


def load_failures(provider_library: Path, *also: str) -> dict[str, str]:
    """Open every library that ONNX Runtime's `libonnxruntime_providers_*.so` needs.

    `also` are libraries that the provider opens by itself when it runs. Returns those that do not load, with the
    loader's words.
    """
    try:
        needed = needed_libraries(provider_library)
    except (OSError, ValueError, struct.error) as error:
        return {provider_library.name: str(error)}
    opened = [name for name in (*needed, *also) if not name.startswith(_DRIVER_LIBRARIES)]
    found = {name: _failure(name, provider_library.parent) for name in opened}
    return {name: failure for name, failure in found.items() if failure}


def remedy_for(libraries: Iterable[str]) -> str:
    """Return the one next step that brings libraries which do not load."""
    names = tuple(libraries)
    if any(name.startswith(("libnvinfer", "libnvonnxparser")) for name in names):
        return (
            "Install TensorRT 10 from NVIDIA (the pip packages tensorrt-cu12 and -cu13 only fetch it from NVIDIA's own "
            "package index), or use the provider cuda"
        )
    if any(name.startswith("libonnxruntime") for name in names):
        return f"Run `{pip_command('install --force-reinstall --no-deps onnxruntime-gpu')}`"
    install = pip_command("install 'onnxruntime-gpu[cuda,cudnn]'")  # those of the version that is there
    return f"Run `{install}`"


def _failure(name: str, beside: Path) -> str:
    """Return why a library does not load; empty if it does.

    ONNX Runtime looks for NVIDIA's wheels only beside its own files. In an environment on top of another, as with
    PyTorch's CUDA below, they are elsewhere on the path: the provider then uses what is open.
    """
    # The provider libraries look in their own directory first.
    first = beside / name if (beside / name).is_file() else Path(name)
    patterns = (f"nvidia/*/lib/{name}", f"tensorrt_libs/{name}")
    in_wheels = (path for entry in sys.path for pattern in patterns for path in Path(entry).glob(pattern))
    failure = ""
    for path in chain([first], in_wheels):
        try:
            ctypes.CDLL(str(path))
        except OSError as error:
            failure = failure or str(error)
        else:
            return ""
    return failure
