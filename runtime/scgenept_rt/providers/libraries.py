"""Which shared libraries a provider needs that do not load here, and what brings them.

ONNX Runtime's provider libraries cannot be opened on their own: their initialisers use a pointer that only ONNX Runtime
sets, and the process dies. So the names of the libraries that they need are read from the file, and those are opened.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scgenept_rt.installing import pip_command
from scgenept_rt.providers import elf

# Examined with the devices, where a missing driver is explained better than by a file name.
_DRIVER_LIBRARIES = ("libcuda.so", "libnvidia-ml.so")

# Library (without "lib", version and suffix) -> the wheel that brings it, less "nvidia-" and the CUDA suffix.
_WHEEL_OF_LIBRARY = {
    "cudart": "cuda-runtime",
    "cublas": "cublas",
    "cublasLt": "cublas",
    "nvrtc": "cuda-nvrtc",
    "curand": "curand",
    "cufft": "cufft",
    "cusparse": "cusparse",
    "cusolver": "cusolver",
    "nvJitLink": "nvjitlink",
}


@dataclass(frozen=True)
class LoadFailure:
    """A library that does not load, with the loader's own words."""

    library: str
    message: str


def load_failures(provider_library: Path, *, also: Sequence[str] = ()) -> list[LoadFailure]:
    """Open every library that ONNX Runtime's `libonnxruntime_providers_*.so` needs, and return those that fail.

    `also` are libraries that the provider opens by itself when it runs.
    """
    try:
        needed = elf.needed_libraries(provider_library)
    except (OSError, ValueError, struct.error) as error:
        return [LoadFailure(provider_library.name, str(error))]
    failures: dict[str, LoadFailure] = {}
    for name in (*needed, *also):
        failure = None if name.startswith(_DRIVER_LIBRARIES) else _open(name, provider_library.parent)
        if failure is not None:
            failures.setdefault(failure.library, failure)
    return list(failures.values())


def wheel_of(library: str, cuda_major: int) -> str | None:
    """Return the wheel that brings a library of a CUDA version; None if none is known."""
    stem = library.removeprefix("lib").split(".")[0]
    base = "cudnn" if stem.startswith("cudnn") else _WHEEL_OF_LIBRARY.get(stem)
    if base is None:
        return None
    # From CUDA 13 on only cuDNN keeps the suffix.
    return f"nvidia-{base}" if cuda_major >= 13 and base != "cudnn" else f"nvidia-{base}-cu{cuda_major}"


def remedy_for(failures: Sequence[LoadFailure], cuda_major: int) -> str:
    """Return the one next step that brings the libraries."""
    names = [failure.library for failure in failures]
    if any(name.startswith(("libnvinfer", "libnvonnxparser")) for name in names):
        return (
            f"Install TensorRT 10 from NVIDIA (the pip package tensorrt-cu{cuda_major} only fetches it from NVIDIA's "
            "own package index), or use the provider cuda"
        )
    if any(name.startswith("libonnxruntime") for name in names):
        return f"Run `{pip_command('install --force-reinstall --no-deps onnxruntime-gpu')}`"
    requirements = dict.fromkeys(found for name in names if (found := wheel_of(name, cuda_major)))
    if requirements:
        return f"Run `{pip_command('install ' + ' '.join(requirements))}`"
    return f"Install the system package that provides {', '.join(names)}"


def _open(name: str, beside: Path) -> LoadFailure | None:
    # The provider libraries look in their own directory first.
    path = beside / name
    try:
        ctypes.CDLL(str(path) if path.is_file() else name)
    except OSError as error:
        if _open_in_wheels(name):
            return None
        # The library that is missing or broken may be one that this one needs.
        named = re.search(r"([^\s:\"'/]+\.so[.\d]*): (?:cannot open|file too short|invalid ELF|undefined)", str(error))
        return LoadFailure(named[1] if named else name, str(error))
    return None


def _open_in_wheels(name: str) -> bool:
    """Open a library of NVIDIA's wheels, wherever on the path they are: the provider then uses what is open.

    ONNX Runtime itself looks only beside its own files. In an environment on top of another, as with PyTorch's CUDA
    below, the wheels are elsewhere.
    """
    for directory in map(Path, sys.path):
        for path in (*directory.glob(f"nvidia/*/lib/{name}"), *directory.glob(f"tensorrt_libs/{name}")):
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(path))
                return True
    return False
