"""What a shared library (a 64-bit ELF file) says about itself: the libraries it needs, the GPUs it has code for."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_NEEDED: Final = 1  # DT_NEEDED
_FATBIN_MAGIC: Final = 0xBA55ED50
_PTX: Final = 1  # compiled by the driver for any GPU that is as new or newer

Sections = dict[bytes, tuple[int, int]]
"""Offset and size in the file of each section, by name."""


def needed_libraries(path: Path) -> list[str]:
    """Return the names of the libraries that a library needs; ValueError or struct.error for other files."""
    with _opened(path) as (content, sections):
        at, size = sections.get(b".dynamic", (0, 0))
        entries = struct.iter_unpack("<QQ", content[at : at + size])
        strings = sections.get(b".dynstr", (0, 0))[0]
        return [_text(content, strings + value).decode() for tag, value in entries if tag == _NEEDED]


def runs_on(library: Path, capability: tuple[int, int]) -> bool:
    """Return whether a library has code for a compute capability; True if the file does not say.

    Machine code runs on GPUs of the same major version, as new or newer. Builds differ: onnxruntime-gpu 1.28 had code
    for 10.0, 1.31 has none.
    """
    wanted = capability[0] * 10 + capability[1]
    listed = False
    try:
        for is_ptx, architecture in _gpu_code(library):
            listed = True
            if architecture <= wanted and (is_ptx or architecture // 10 == capability[0]):
                return True
    except (OSError, ValueError, struct.error):  # no file, or not of this format
        return True
    return not listed


@contextmanager
def _opened(path: Path) -> Iterator[tuple[mmap.mmap, Sections]]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content[:6] != b"\x7fELF\x02\x01":
            raise ValueError(f"{path} is not a shared library for this kind of machine")
        (table,) = struct.unpack_from("<Q", content, 40)
        entry_size, n_sections, names = struct.unpack_from("<HHH", content, 58)
        found = [struct.unpack_from("<IIQQQQ", content, table + i * entry_size) for i in range(n_sections)]
        yield content, {_text(content, found[names][4] + name): (at, size) for name, _, _, _, at, size in found}


def _text(content: mmap.mmap, at: int) -> bytes:
    return content[at : content.find(b"\0", at)]


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
