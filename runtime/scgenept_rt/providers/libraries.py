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

from scgenept_rt.providers.installation import find_package

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
# Libraries whose own version gives the CUDA version: add this to it.
_CUDA_MINUS_LIBRARY_VERSION = {"cudart": 0, "cublas": 0, "cublasLt": 0, "nvrtc": 0, "nvJitLink": 0, "cufft": 1}


@dataclass(frozen=True)
class LoadFailure:
    """A library that does not load, with the loader's own words."""

    library: str
    message: str


def load_failures(provider_library: Path, *, also: Sequence[str] = ()) -> list[LoadFailure]:
    """Open every library that a provider library needs, and those in `also`, and return those that fail.

    Parameters
    ----------
    provider_library
        ONNX Runtime's own `libonnxruntime_providers_*.so`.
    also
        Names of libraries that the provider opens by itself when it runs.
    """
    try:
        needed = needed_libraries(provider_library)
    except (ValueError, OSError, struct.error):
        # Not an ELF file, so there are no initialisers to fear: the loader can say what it is.
        failure = _open(provider_library.name, provider_library.parent)
        return [failure or LoadFailure(provider_library.name, "is not a shared library for this kind of machine")]
    failures: dict[str, LoadFailure] = {}
    for name in (*needed, *also):
        failure = None if name.startswith(_DRIVER_LIBRARIES) else _open(name, provider_library.parent)
        if failure is not None:
            failures.setdefault(failure.library, failure)
    return list(failures.values())


def load_tensorrt_wheel() -> None:
    """Open the TensorRT libraries of an installed `tensorrt-*-libs` wheel, where the loader would not look."""
    spec = find_package("tensorrt_libs")
    for directory in (spec.submodule_search_locations or ()) if spec else ():
        for pattern in ("libnvinfer.so.*", "libnvonnxparser.so.*"):
            for path in sorted(Path(directory).glob(pattern)):
                _open(path.name, path.parent)


def needed_libraries(path: Path) -> tuple[str, ...]:
    """Return the names in a 64-bit ELF file's list of needed libraries (DT_NEEDED).

    Raises
    ------
    ValueError
        If this is not such a file.
    """
    with path.open("rb") as stream:

        def read(offset: int, size: int) -> bytes:
            stream.seek(offset)
            found = stream.read(size)
            if len(found) < size:
                raise ValueError(f"{path} is cut short")
            return found

        header = read(0, 64)
        if header[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path} is not a 64-bit little-endian ELF file")
        table, entry_size, n_entries = *struct.unpack_from("<Q", header, 32), *struct.unpack_from("<HH", header, 54)
        segments = [struct.unpack("<IIQQQQQQ", read(table + i * entry_size, 56)) for i in range(n_entries)]
        loaded = [(address, offset, size) for kind, _, offset, address, _, size, _, _ in segments if kind == 1]
        dynamic = next(((offset, size) for kind, _, offset, _, _, size, _, _ in segments if kind == 2), None)
        if dynamic is None:
            return ()
        entries = list(struct.iter_unpack("<QQ", read(dynamic[0], dynamic[1] // 16 * 16)))
        strings = next((value for tag, value in entries if tag == 5), None)
        length = next((value for tag, value in entries if tag == 10), 0)
        if strings is None:
            return ()
        position = next(
            (at + strings - start for start, at, size in loaded if start <= strings < start + size), strings
        )
        text = read(position, length)
    return tuple(text[value : text.index(b"\0", value)].decode() for tag, value in entries if tag == 1)


def named_library(message: str) -> str | None:
    """Return the library that a message of glibc's loader says is missing or broken; None if it names none."""
    match = re.search(
        r"([^\s:\"'/]+\.so[.\d]*): (?:cannot open shared|file too short|invalid ELF header|undefined symbol)", message
    )
    return match.group(1) if match else None


def wheel_of(library: str, cuda_major: int) -> str | None:
    """Return the wheel that brings a CUDA library; None if none is known.

    The CUDA version comes from the library's own version where that says it, else from `cuda_major`.
    """
    match = re.fullmatch(r"lib([A-Za-z_]+)\.so\.(\d+)[\d.]*", library)
    if not match:
        return None
    stem, version = match.group(1), int(match.group(2))
    base = "cudnn" if stem.split("_")[0] == "cudnn" else _WHEEL_OF_LIBRARY.get(stem)
    if base is None:
        return None
    if stem in _CUDA_MINUS_LIBRARY_VERSION:
        cuda_major = version + _CUDA_MINUS_LIBRARY_VERSION[stem]
    # From CUDA 13 on only cuDNN keeps the suffix.
    return f"nvidia-{base}" if cuda_major >= 13 and base != "cudnn" else f"nvidia-{base}-cu{cuda_major}"


def cuda_major_of(provider_library: Path) -> int | None:
    """Return the CUDA version that a provider library was linked against; None if it does not say."""
    try:
        needed = needed_libraries(provider_library)
    except (ValueError, OSError, struct.error):
        return None
    versions = [re.fullmatch(r"lib(?:cudart|cublas|cublasLt|nvrtc)\.so\.(\d+)[\d.]*", name) for name in needed]
    return next((int(match.group(1)) for match in versions if match), None)


def remedy_for(failures: Sequence[LoadFailure], wheel: str, cuda_major: int) -> str:
    """Return the one next step that brings the libraries; `wheel` is the distribution of ONNX Runtime."""
    names = [failure.library for failure in failures]
    if any(name.startswith(("libnvinfer", "libnvonnxparser")) for name in names):
        return (
            f"Install TensorRT 10 from NVIDIA (the pip package tensorrt-cu{cuda_major} only fetches it from NVIDIA's "
            "own package index), or use the provider cuda"
        )
    if any(name.startswith("libonnxruntime") for name in names):
        return f"Run `pip install --force-reinstall --no-deps {wheel}`"
    requirements = dict.fromkeys(found for name in names if (found := wheel_of(name, cuda_major)))
    if requirements:
        return f"Run `pip install {' '.join(requirements)}`"
    return f"Install the system package that provides {', '.join(names)}"


def _open(name: str, beside: Path) -> LoadFailure | None:
    # The provider libraries look in their own directory first.
    path = beside / name
    try:
        ctypes.CDLL(str(path) if path.is_file() else name)
    except OSError as error:
        if _open_in_wheels(name):
            return None
        message = str(error)
        return LoadFailure(named_library(message) or name, message)
    return None


def _open_in_wheels(name: str) -> bool:
    """Open a library of NVIDIA's wheels, wherever on the path they are: the provider then uses what is open.

    ONNX Runtime itself looks beside its own files alone. In an environment on top of another, as with PyTorch's CUDA
    below, the wheels are elsewhere.
    """
    for directory in sys.path:
        for path in sorted(Path(directory).glob(f"nvidia/*/lib/{name}")):
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(path))
                return True
    return False
