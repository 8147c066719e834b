"""Shared libraries that a provider needs: which do not load here, what brings them, which GPUs they have code for.

ONNX Runtime's provider libraries cannot be opened on their own: their initialisers use a pointer that only ONNX Runtime
sets, and the process dies. So what they need is read from the file (a 64-bit ELF file), and that is opened.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Final

from scgenept_rt.installing import pip_command

# Examined with the devices, where a missing driver is explained better than by a file name.
_DRIVER_LIBRARIES = ("libcuda.so", "libnvidia-ml.so")
_NEEDED: Final = 1  # DT_NEEDED
_FATBIN_MAGIC: Final = 0xBA55ED50
_PTX: Final = 1  # compiled by the driver for any GPU that is as new or newer


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


def remedy_for(failures: Mapping[str, str]) -> str:
    """Return the one next step that brings libraries which do not load."""
    if any(name.startswith(("libnvinfer", "libnvonnxparser")) for name in failures):
        return (
            "Install TensorRT 10 from NVIDIA (the pip packages tensorrt-cu12 and -cu13 only fetch it from NVIDIA's own "
            "package index), or use the provider cuda"
        )
    if any(name.startswith("libonnxruntime") for name in failures):
        return f"Run `{pip_command('install --force-reinstall --no-deps onnxruntime-gpu')}`"
    if not any(name.startswith(("libcu", "libnv")) for name in failures):
        return f"Install the package of the operating system that has {next(iter(failures))}"
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


def needed_libraries(path: Path) -> list[str]:
    """Return the names of the libraries that a library needs; ValueError or struct.error for other files."""
    with _opened(path) as (content, sections):
        at, size = sections.get(b".dynamic", (0, 0))
        entries = struct.iter_unpack("<QQ", content[at : at + size])
        strings = sections.get(b".dynstr", (0, 0))[0]
        return [_text(content, strings + value).decode() for tag, value in entries if tag == _NEEDED]


def runs_on(library: Path, capability: str) -> bool:
    """Return whether a library has code for a compute capability, such as "9.0"; True if the file does not say.

    Machine code runs on GPUs of the same major version, as new or newer. Builds differ: onnxruntime-gpu 1.28 had code
    for 10.0, 1.31 has none.
    """
    wanted = int(capability.replace(".", ""))
    listed = False
    try:
        for is_ptx, architecture in _gpu_code(library):
            listed = True
            if architecture <= wanted and (is_ptx or architecture // 10 == wanted // 10):
                return True
    except (OSError, ValueError, struct.error):  # no file, or not of this format
        return True
    return not listed


def _gpu_code(library: Path) -> Iterator[tuple[bool, int]]:
    """Yield kind and architecture (such as 90) of each piece of GPU code, reading only headers: it is large."""
    with _opened(library) as (content, sections):
        at, size = sections.get(b".nv_fatbin", (0, 0))
        end = at + size
        while at + 16 <= end:
            magic, _, header, length = struct.unpack_from("<IHHQ", content, at)
            if magic != _FATBIN_MAGIC:  # padding
                at += 8
                continue
            entry, at = at + header, at + header + length
            while entry < at:
                kind, _, header, length = struct.unpack_from("<HHIQ", content, entry)
                yield kind == _PTX, struct.unpack_from("<I", content, entry + 28)[0]
                entry += header + length
            at += -at % 8


@contextmanager
def _opened(path: Path) -> Iterator[tuple[mmap.mmap, dict[bytes, tuple[int, int]]]]:
    """Open a shared library, and yield its content and the offset and size of each section by name."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path} is not a shared library for this kind of machine")
        (table,) = struct.unpack_from("<Q", content, 40)
        entry_size, n_sections, names = struct.unpack_from("<HHH", content, 58)
        found = [struct.unpack_from("<IIQQQQ", content, table + i * entry_size) for i in range(n_sections)]
        yield content, {_text(content, found[names][4] + name): (at, size) for name, _, _, _, at, size in found}


def _text(content: mmap.mmap, at: int) -> bytes:
    return content[at : content.find(b"\0", at)]
